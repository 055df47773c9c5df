"""Plain masked autoencoding of CIFAR-10 with DyViT-P, 60 passes: the recipe of coma_mm://dyvit-p_cifar10.

    COMA_MM_CIFAR10=FILE_OR_FOLDER tools/train.py configs/pretrain/mae_dyvit-p_cifar10.py

Three of four units are hidden, as in MAE. That takes 0.71 of the operations of hiding 60 %. The linear probe is as good
(docs/evidence.md, question 1).
Data: CIFAR-10, see coma_mm.CIFAR. Hardware: 2 CPU cores with AVX512-BF16 or AMX.
Hours, result: 2.4 on one of the cores with model.compile=True, weights/dyvit-p_cifar10.md
"""

_base_ = '../_base_/coma_dyvit-p_cifar10.py'

model = dict(evaluation=dict(mode='off'))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                type='RandomResizedCrop',
                scale=32,
                crop_ratio_range=(0.5, 1.0),
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='coma_mm.ComplementaryMask', input_size=32, unit_size=8, ratio=0.75),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=30, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=570, by_epoch=True, begin=30, end=600, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=600)  # of a tenth of the images each
default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.StopOnNaNHook', interval=100),
    dict(type='coma_mm.QualityHook', dataset={{_base_.held_out}}, num_images=1000, interval=50),
    dict(type='coma_mm.ReportHook'),
]
