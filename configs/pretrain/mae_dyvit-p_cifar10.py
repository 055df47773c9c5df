"""Plain masked autoencoding of CIFAR-10 with DyViT-P, ten passes: what did best in docs/evidence.md, question 1.

    COMA_MM_CIFAR10=FILE_OR_FOLDER tools/train.py configs/pretrain/mae_dyvit-p_cifar10.py

Data: CIFAR-10, see coma_mm.CIFAR. Hardware: 2 CPU cores with AVX512-BF16 or AMX.
Hours, result: 0.6 on one of the cores, coma_mm://dyvit-p_cifar10 (weights/dyvit-p_cifar10.md)
"""

_base_ = '../studies/_base_/coma_dyvit-p_cifar10.py'

model = dict(evaluation=dict(mode='off'))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=12.5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=87.5, by_epoch=True, begin=12.5, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)  # of a tenth of the images each
