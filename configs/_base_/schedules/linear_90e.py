"""MAE's linear probe in 90 epochs: LARS without weight decay, global batch 16384, warm-up, cosine; bf16 on GPUs."""

optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper',
    optimizer=dict(type='LARS', lr=0.1 * 16384 / 256, momentum=0.9, weight_decay=0.0),
    # LARS scales a rate by the norm of what it trains, which for a bias starts at 0.
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(lars_exclude=True)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=80, by_epoch=True, begin=10, end=90, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90)
val_cfg = test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16384)
