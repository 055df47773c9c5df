"""CoMA pre-training of DyViT-L on ImageNet-1K, 200 epochs.

    tools/dist_train.sh configs/pretrain/coma_dyvit-l_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(arch='large'))
