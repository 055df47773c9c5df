"""Linear probe of DyViT-T on ImageNet-1K, 90 epochs: how good CoMA's features are as they come.

    tools/dist_train.sh configs/cls/linear_dyvit-t_in1k.py 8

Weights: of coma_dyvit-t_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE
Hardware: 8 GPUs x 2048 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'linear_dyvit-b_in1k.py'
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='work_dirs/coma_dyvit-t_in1k/epoch_200.pth')),
    neck=[dict(type='GlobalAveragePooling'), dict(type='coma_mm.BatchNormNeck', input_features=512)],
    head=dict(in_channels=512),
)
