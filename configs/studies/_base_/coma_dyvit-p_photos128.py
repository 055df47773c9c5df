"""CoMA with DyViT-P on crops of 128 px of a folder of photos, without labels: 16 units of 32 px, 10 of them hidden.

    tools/lab/study.py transfer --data FOLDER, or tools/train.py with this file and COMA_MM_PHOTOS=FOLDER

Data: FOLDER/photos/{train,val}/**, any photos. Hardware: 2 CPU cores, half an hour for 100 passes over 1,600 photos.
Result: docs/evidence.md
"""

_base_ = ['../../_base_/models/coma_dyvit-b.py', '../../_base_/default_runtime.py']

data_root = '{{$COMA_MM_PHOTOS:data}}/photos'
model = dict(
    backbone=dict(arch='pico', img_size=128, patch_size=4),
    decoder=dict(dim=128, depth=2, num_heads=4),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='coma_mm.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        pipeline=[
            dict(type='coma_mm.LoadRandomResizedCrop', scale=128, crop_ratio_range=(0.2, 1.0)),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='coma_mm.ComplementaryMask', input_size=128, unit_size=32, ratio=0.6),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    ),
)
optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper',
    cpu=True,
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=90, by_epoch=True, begin=10, end=100, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=1, max_keep_ckpts=2))

# What a study measures on: photos that are not trained on, and photos that may be published.
held_out = dict(
    type='coma_mm.ImageFolder',
    data_root=data_root,
    data_prefix='val',
    pipeline=[
        dict(type='coma_mm.LoadImage'),
        dict(type='ResizeEdge', scale=128, edge='short', backend='pillow'),
        dict(type='CenterCrop', crop_size=128),
    ],
)
pictured = dict(
    type='coma_mm.Photos',
    names=('astronaut', 'chelsea', 'coffee', 'rocket'),
    short_side=128,
    pipeline=[dict(type='CenterCrop', crop_size=128)],
)
