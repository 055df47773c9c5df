"""Question 4: parameters, operations and forward time of DyViT-B beside ViT-B, Swin-B and Hiera-B+, 64 images.

    tools/lab/study.py efficiency

The times are those of tools/lab/benchmark.py, in which models take turns; whole images of 224 px. No data needed.
Hardware: 2 CPU cores, a quarter of an hour; --size gpu: 1 GPU, bf16
"""

models = {
    'ViT-B (mmpretrain)': dict(type='VisionTransformer', arch='b', patch_size=16),
    'Swin-B (mmpretrain)': dict(type='SwinTransformer', arch='base'),
    'Hiera-B+ (timm)': dict(type='TIMMBackbone', model_name='hiera_base_plus_224'),
    'DyViT-B': dict(type='coma_mm.DyViT', arch='base'),
}
only = ['--only', 'ViT-B (', 'Swin-B', 'Hiera-B+', 'DyViT-B']
cells = dict(
    forward=dict(
        config=None,
        measures=dict(benchmark=dict(suite='forward', arguments=[*only, '--batch', 64, '--rounds', 5], models=models)),
    ),
)
sizes = dict(
    smoke=dict(
        seeds=[0],
        measures=dict(
            benchmark=dict(
                arguments=['--only', 'DyViT-B', '--batch', 1, '--rounds', 1],
            )
        ),
    ),
    cpu=dict(seeds=[0]),
    gpu=dict(
        seeds=[0],
        measures=dict(benchmark=dict(arguments=[*only, '--batch', 64, '--rounds', 20, '--precision', 'bf16'])),
    ),
)
report = dict(
    qualities=dict(
        parameters_m='parameters (M)',
        gmacs='GMACs',
        ms_per_image='ms per image (median)',
        ms_per_image_fastest='ms per image (fastest round)',
    ),
)
