"""mmdet's Cascade Mask R-CNN with FPN, on DyViT-B, with the changes of mask-rcnn_dyvit-b_fpn.py."""

_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='coma_mm.DyViT',
        arch='base',
        out_indices=(0, 1, 2, 3),
        attn_window=7,
        drop_path_rate=0.2,
        init_cfg=dict(type='coma_mm.Pretrained', checkpoint='work_dirs/coma_dyvit-b_in1k/epoch_200.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
