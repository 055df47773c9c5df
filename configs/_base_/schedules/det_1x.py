"""12 epochs of AdamW for detectors, global batch 16: warm-up, two drops of the rate; bf16 up to the neck on GPUs."""

_base_ = 'mmdet::_base_/default_runtime.py'

optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper',
    modules=('backbone', 'neck'),  # boxes need more than bf16, and some of mmcv's GPU kernels do not know it
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', milestones=[8, 11]),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)  # with --auto-scale-lr the rate follows the actual batch
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
custom_hooks = [dict(type='coma_mm.StopOnNaNHook')]
