"""DyViT-B and a linear layer on the mean of its last map, for 1000 classes."""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,  # coma_mm.LoadImage reads RGB
    ),
    backbone=dict(
        type='coma_mm.DyViT',
        arch='base',
        img_size=224,
        init_cfg=dict(type='coma_mm.Pretrained', checkpoint='work_dirs/coma_dyvit-b_in1k/epoch_200.pth'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,  # DyViT.out_channels: 512 (tiny), 768 (small), 1024 (base), 1536 (large)
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)
