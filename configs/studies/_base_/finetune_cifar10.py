"""Fine-tuning on a share of CIFAR-10's labels, the same short schedule for all backbones.

Not to be run by itself: tools/lab/study.py sets the backbone, its weights and the share. Hardware: 2 CPU cores, minutes
"""

_base_ = '../../_base_/default_runtime.py'

data_root = '{{$COMA_MM_CIFAR10:data/cifar10.npz}}'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=10, mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7], to_rgb=False
    ),  # coma_mm.CIFAR is RGB
    backbone=dict(type='coma_mm.DyViT', arch='pico', img_size=32, patch_size=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='coma_mm.CIFAR',
        data_root=data_root,
        fraction=0.1,
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='coma_mm.CIFAR', data_root=data_root, split='test', pipeline=[dict(type='PackInputs')]),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(
    type='coma_mm.AutocastOptimWrapper',
    cpu=True,
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=18, by_epoch=True, begin=2, end=20, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_begin=1000)  # validated afterwards
val_cfg = dict()
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1, max_keep_ckpts=2))
