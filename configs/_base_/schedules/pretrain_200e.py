"""MAE's optimisation for 200 epochs (12 % of its 1600): AdamW, global batch 4096, warm-up, cosine; bf16 on GPUs."""

optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',  # no weight decay on norms, biases and tokens
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=160, by_epoch=True, begin=40, end=200, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
auto_scale_lr = dict(base_batch_size=4096)  # with --auto-scale-lr the rate follows the actual batch
