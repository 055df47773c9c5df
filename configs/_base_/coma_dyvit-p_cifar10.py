"""CoMA on CIFAR-10 with DyViT-P: 16 units of 8 px, 10 of them hidden; 8 passes over the 50,000 images, without labels.

Batches are small, since more steps help more than more images at this length. Crops are scaled, not padded: the black
of a padded border would be a large share of the loss.

    tools/lab/study.py method --data FILE, or tools/train.py with this file and COMA_MM_CIFAR10=FILE

Hardware: 2 CPU cores with AVX512-BF16 or AMX, half an hour. Result: docs/evidence.md
"""

_base_ = ['models/coma_dyvit-b.py', 'default_runtime.py']

data_root = '{{$COMA_MM_CIFAR10:data/cifar10.npz}}'
model = dict(
    data_preprocessor=dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
    backbone=dict(arch='pico', img_size=32, patch_size=1),
    decoder=dict(dim=128, depth=2, num_heads=4),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='coma_mm.PartSampler', parts=10),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='coma_mm.CIFAR',
        data_root=data_root,
        pipeline=[
            dict(
                type='RandomResizedCrop',
                scale=32,
                crop_ratio_range=(0.5, 1.0),
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='coma_mm.ComplementaryMask', input_size=32, unit_size=8, ratio=0.6),
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
# 80 epochs of a tenth of the images each: checkpoints every half a minute
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=70, by_epoch=True, begin=10, end=80, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=80)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=1, max_keep_ckpts=2))

# What a study measures on: images that are not trained on, and images with labels.
held_out = dict(type='coma_mm.CIFAR', data_root=data_root, split='test')
labelled = dict(type='coma_mm.CIFAR', data_root=data_root, split='train')
