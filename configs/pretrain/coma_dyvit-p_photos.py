"""The demo: CoMA pre-training of a tiny DyViT on the seven photos that come with scikit-image and scikit-learn.

    tools/train.py configs/pretrain/coma_dyvit-p_photos.py

Crops are 64 px and have 16 units of 16 px (patch size 2); 10 of them are hidden from the adaptive branch. The target is
plain pixels (norm_pix=False), so the picture shows what the model predicts.
Hardware: 2 CPU cores. Hours, result: 4 to 6 minutes, 6 dB above filling units with the mean colour around them
"""

_base_ = ['../_base_/models/coma_dyvit-b.py', '../_base_/default_runtime.py']

model = dict(
    backbone=dict(arch='pico', img_size=64, patch_size=2),
    decoder=dict(dim=128, depth=4, num_heads=4),
    norm_pix=False,
)

mask = dict(type='coma_mm.ComplementaryMask', input_size=64, unit_size=16, ratio=0.6)
crop = dict(
    type='RandomResizedCrop',
    scale=64,
    crop_ratio_range=(0.7, 1.0),
    aspect_ratio_range=(0.9, 1.1),
    backend='pillow',
    interpolation='bicubic',
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='coma_mm.Photos',
        length=64 * 30,
        short_side=128,
        pipeline=[crop, mask, dict(type='coma_mm.PackMaskedImage')],
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',  # no weight decay on norms, biases and tokens
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=19, by_epoch=True, begin=1, end=20, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)

pictured = dict(
    type='coma_mm.Photos',
    short_side=64,
    pipeline=[dict(type='CenterCrop', crop_size=64), mask, dict(type='coma_mm.PackMaskedImage')],
)
default_hooks = dict(logger=dict(interval=20))
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.StopOnNaNHook', interval=20),
    dict(type='coma_mm.ReconstructionHook', interval=5, dataset=pictured),
    dict(type='coma_mm.FeaturesHook', interval=5, dataset=pictured),
    dict(type='coma_mm.QualityHook', interval=5, num_images=64),
    dict(type='coma_mm.ReportHook'),
    dict(
        type='coma_mm.FinishedHook',
        text='The picture: {work_dir}/reconstruction.png\n'
        'Next, your own images: coma-mm pretrain FOLDER --out runs/mine',
    ),
]
