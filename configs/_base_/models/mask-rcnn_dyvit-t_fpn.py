"""Mask R-CNN with FPN on DyViT-T."""

_base_ = './mask-rcnn_dyvit-b_fpn.py'

model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/coma_dyvit-t_in1k/epoch_200.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
