"""CoMA in seconds, with all parts that a kill might damage: tools/lab/chaos.py kills and resumes this run.

It has three epochs of six steps. Each epoch ends with a checkpoint (the newest is kept), an evaluation of features and
a picture. It has a persistent loading worker and a second model as evaluation branch. Rates change at every step.
"""

_base_ = ['../../_base_/default_runtime.py']

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='coma_mm.Photos',
        length=24,
        short_side=64,
        pipeline=[
            dict(type='RandomResizedCrop', scale=32),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='coma_mm.ComplementaryMask', input_size=32, unit_size=16, ratio=0.5),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    ),
)
model = dict(
    type='coma_mm.CoMA',
    backbone=dict(
        type='coma_mm.DyViT',
        arch=dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
        img_size=32,
        patch_size=2,
        drop_path_rate=0.2,
    ),
    decoder=dict(type='coma_mm.ViTDecoder', dim=64, depth=1, num_heads=4),
    evaluation=dict(mode='ema', momentum=0.1),
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=0, end=3, T_max=3, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=3)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, _delete_=True),
)
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.StopOnNaNHook'),
    dict(type='coma_mm.ReconstructionHook', num_images=2, interval=1),
    dict(
        type='coma_mm.KNNHook',
        train=dict(type='coma_mm.Digits', size=32, indices=60, pipeline=[dict(type='mmpretrain.PackInputs')]),
        val=dict(type='coma_mm.Digits', size=32, indices=30, pipeline=[dict(type='mmpretrain.PackInputs')]),
        interval=1,
        batch_size=30,
        num_workers=0,
    ),
]
randomness = dict(seed=0)
