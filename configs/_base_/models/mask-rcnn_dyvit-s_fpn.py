"""Mask R-CNN with FPN on DyViT-S."""

_base_ = './mask-rcnn_dyvit-b_fpn.py'

model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(checkpoint='work_dirs/coma_dyvit-s_in1k/epoch_200.pth'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
