"""ImageNet's training images without labels, 224 px, each with its mask. 8 GPUs x 512 images."""

train_pipeline = [
    dict(type='coma_mm.LoadRandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='coma_mm.ComplementaryMask', input_size=224, unit_size=32, ratio=0.6),
    dict(type='coma_mm.PackMaskedImage'),
]
train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='coma_mm.ImageFolder', data_root='data/imagenet', data_prefix='train', pipeline=train_pipeline),
)
