"""A pre-training run of seconds, with all hooks."""

default_scope = 'mmpretrain'
pipeline = [
    dict(type='RandomResizedCrop', scale=48),
    dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16, ratio=0.6),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='coma_mm.Photos', length=12, pipeline=pipeline),
)
model = dict(
    type='coma_mm.CoMA',
    backbone=dict(
        type='coma_mm.DyViT',
        arch=dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
        img_size=48,
        patch_size=2,
        drop_path_rate=0.2,
    ),
    decoder=dict(type='coma_mm.ViTDecoder', dim=64, depth=1, num_heads=4),
    norm_pix=False,
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
optim_wrapper = dict(type='coma_mm.AutocastOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(by_epoch=True, max_epochs=2)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1),
)
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.StopOnNaNHook'),
    dict(type='coma_mm.ReconstructionHook', num_images=2, interval=1),
    dict(
        type='coma_mm.KNNHook',
        data=dict(type='coma_mm.datasets.load_digits_images', size=16),
        name='handwritten digits',
    ),
    dict(type='coma_mm.FinishedHook', text='picture: {work_dir}/reconstruction.png; next: {config} {checkpoint}'),
]
randomness = dict(seed=0)
