"""kNN classification of ImageNet-1K by DyViT-S's frozen features.

    tools/dist_test.sh configs/cls/knn_dyvit-s_in1k.py work_dirs/coma_dyvit-s_in1k/epoch_200.pth 8

Hardware: 8 GPUs x 256 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'knn_dyvit-b_in1k.py'
model = dict(backbone=dict(arch='small'))
