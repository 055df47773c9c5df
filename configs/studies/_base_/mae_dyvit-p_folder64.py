"""DyViT-P on crops of 64 px of a folder with a sub-folder for each class, 420 steps of 64 images: 16 units of 16 px.

    tools/lab/study.py recipe --folder NAME=FOLDER

Labels are used only to measure. Hardware: 2 CPU cores, a quarter of an hour.
"""

_base_ = 'coma_dyvit-p_photos128.py'

model = dict(
    backbone=dict(img_size=64, patch_size=2),
    evaluation=dict(mode='off'),
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='coma_mm.ClassFolder',
        data_root='data',
        part='train',
        pipeline=[
            dict(type='coma_mm.LoadRandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0)),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='coma_mm.ComplementaryMask', input_size=64, unit_size=16, ratio=0.6),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=42),
    dict(type='CosineAnnealingLR', T_max=378, by_epoch=False, begin=42, end=420),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=420)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100))

whole = [
    dict(type='coma_mm.LoadImage'),
    dict(type='ResizeEdge', scale=64, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=64),
]
held_out = dict(_delete_=True, type='coma_mm.ClassFolder', data_root='data', part='val', pipeline=whole)
labelled = dict(type='coma_mm.ClassFolder', data_root='data', part='train', pipeline=whole)
