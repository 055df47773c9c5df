"""The demo's first part: pre-training on scikit-learn's handwritten digits, and what the features are worth.

    tools/train.py configs/pretrain/coma_dyvit-p_digits.py

The 1797 images are scaled to 32 px; units are 8 px (patch size 1). Labels are used only for the kNN accuracy, which is
logged for random weights and for the trained weights.
Hardware: 2 CPU cores. Hours, result: 1 minute, half of the errors of random weights by kNN
(docs/installation.md, three seeds)
"""

_base_ = ['coma_dyvit-p_photos.py']

model = dict(
    # One window per head, down to single tokens: with kv_conv='averaged', in this one minute of tiny images, it ended
    # higher than shared windows; the default has not been compared.
    backbone=dict(img_size=32, patch_size=1, windows=([2, 4, 4, 8], [1, 1, 2, 2, 2, 2, 4, 4], None, None)),
    decoder=dict(depth=2),
    norm_pix=True,
    evaluation=dict(mode='align', weight=1.0),  # as coma-mm pretrain does
    predict_visible=1.0,
    keep_apart=1.0,
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='coma_mm.Digits',
        size=32,
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=2),
            dict(type='coma_mm.ComplementaryMask', input_size=32, unit_size=8, ratio=0.6),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    )
)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=5, by_epoch=True, begin=1, end=6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6)
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.StopOnNaNHook', interval=20),
    dict(
        type='coma_mm.KNNHook',
        data=dict(type='coma_mm.datasets.load_digits_images', size=32),
        name="scikit-learn's handwritten digits",
        pool='flat',  # the digits are aligned, so where a feature is says something
    ),
]
