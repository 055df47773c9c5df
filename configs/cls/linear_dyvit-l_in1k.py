"""Linear probe of DyViT-L on ImageNet-1K, 90 epochs: how good CoMA's features are as they come.

    tools/dist_train.sh configs/cls/linear_dyvit-l_in1k.py 8

Weights: of coma_dyvit-l_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE
Hardware: 8 GPUs x 2048 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'linear_dyvit-b_in1k.py'
model = dict(
    backbone=dict(arch='large', init_cfg=dict(checkpoint='work_dirs/coma_dyvit-l_in1k/epoch_200.pth')),
    neck=[dict(type='GlobalAveragePooling'), dict(type='coma_mm.BatchNormNeck', input_features=1536)],
    head=dict(in_channels=1536),
)
