"""Question 8: which spatial frequencies are reconstructed, with units of 16 and 32 px, with and without fused stages?

    tools/lab/study.py texture --data FOLDER

The plot has the error of the assembled reconstruction by radial frequency, as a share of the image's power there. A
grey image has 1. Dashed lines are units filled with the mean colour around them. The target is plain pixels
(norm_pix=False).
Data: FOLDER/photos/{train,val}/**, any photos. Hardware: 2 CPU cores, an hour
"""

data = 'COMA_MM_PHOTOS'
config = '_base_/coma_dyvit-p_photos128.py'
small = {'model.backbone.patch_size': 2, 'train_dataloader.dataset.pipeline.2.unit_size': 16}
fused = {'model.fuse_stages': True}
cells = dict(
    units_32=dict(),
    units_32_fused=dict(options=fused),
    units_16=dict(options=small),
    units_16_fused=dict(options={**small, **fused}),
)
measures = dict(reconstruction=dict(images=200), bands=dict())
sizes = dict(
    smoke=dict(
        seeds=[0],
        epochs=2,
        options={
            'model.norm_pix': False,
            'model.backbone.arch': dict(_delete_=True, dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
            'model.decoder': dict(dim=32, depth=1),
            'train_dataloader.batch_size': 2,
        },
    ),
    cpu=dict(seeds=[0], epochs=16, options={'model.norm_pix': False}),
    gpu=dict(
        seeds=[0, 1],
        epochs=300,
        options={
            'model.norm_pix': False,
            'model.backbone.arch': 'tiny',
            'model.compile': True,
            'train_dataloader.batch_size': 256,
        },
    ),
)
report = dict(
    qualities=dict(
        psnr_assembled='PSNR, assembled (dB)',
        psnr_baseline='PSNR of mean colours (dB)',
        error_low='error below 1/16 cycles/px',
        error_high='error above 1/4 cycles/px',
        loss='loss',
    ),
    plots=[dict(x='frequency', y='error'), dict(x=['images', 'gflops'], y='loss')],
)
