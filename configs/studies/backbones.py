"""Question 7: does copy beat off on a plain ViT, on Swin, on PVT?

    tools/lab/study.py backbones --data FILE

The classes are mmpretrain's own. ViT leaves hidden units out, as DyViT does. In Swin and in PVT (the class PCPVT, with
the positions of Twins) hidden units become a mask token before the first block. Units have 8 px, those of ViT 4 px. So
compare losses within a backbone only.
Data, hardware: as method.py, 12 cells of 20 minutes
"""

_base_ = 'method.py'

vit = {
    'model.backbone': dict(
        _delete_=True,
        type='coma_mm.MaskedViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=6, feedforward_channels=768),
        img_size=32,
        patch_size=4,
    ),
    'train_dataloader.dataset.pipeline.2.unit_size': 4,
}
swin = {
    'model.backbone': dict(
        _delete_=True,
        type='coma_mm.MaskTokenEncoder',
        backbone=dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=32, depths=[1, 1, 4, 1], num_heads=[2, 4, 8, 8]),
            img_size=32,
            patch_size=1,
            window_size=4,
            drop_path_rate=0.0,
        ),
        embedding='patch_embed',
        embed_dims=32,
        unit_size=8,
        out_channels=256,
    )
}
pvt = {
    'model.backbone': dict(
        _delete_=True,
        type='coma_mm.MaskTokenEncoder',
        backbone=dict(
            type='mmpretrain.PCPVT',
            arch=dict(
                embed_dims=[32, 64, 128, 256],
                depths=[1, 1, 4, 1],
                num_heads=[1, 2, 4, 8],
                patch_sizes=[1, 2, 2, 2],
                strides=[1, 2, 2, 2],
                mlp_ratios=[4, 4, 4, 4],
                sr_ratios=[8, 4, 2, 1],
            ),
            norm_after_stage=[False, False, False, True],
        ),
        embedding='patch_embeds.0',
        embed_dims=32,
        unit_size=8,
        out_channels=256,
    )
}
off = {'model.evaluation.mode': 'off'}
cells = dict(
    _delete_=True,
    vit_off=dict(options={**vit, **off}),
    vit_copy=dict(options=vit),
    swin_off=dict(options={**swin, **off}),
    swin_copy=dict(options=swin),
    pvt_off=dict(options={**pvt, **off}),
    pvt_copy=dict(options=pvt),
)
first = ()
sizes = dict(cpu=dict(epochs=16), gpu=dict(epochs=80))
report = dict(
    bars=None,
    qualities=dict(
        _delete_=True,
        loss='loss',
        knn='kNN (%)',
        probe='linear probe (%)',
        probe_positions='probe of positions (%)',
        finetune_1='1 % of labels (%)',
        finetune_10='10 % of labels (%)',
        rankme='RankMe',
    ),
    reach=None,
)
