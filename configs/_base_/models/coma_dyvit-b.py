"""CoMA on DyViT-B at 224 px: 49 units of 32 px, 29 of them hidden from the adaptive branch."""

model = dict(
    type='coma_mm.CoMA',
    data_preprocessor=dict(  # images travel as bytes and become floats on the GPU
        type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
    ),
    backbone=dict(type='coma_mm.DyViT', arch='base', img_size=224),
    decoder=dict(type='coma_mm.ViTDecoder', dim=512, depth=8, num_heads=16),
    evaluation=dict(mode='copy'),
    norm_pix=True,
)
