"""CoMA pre-training of a plain ViT-B/16 on ImageNet-1K, 800 epochs: units are 16 px patches.

    tools/dist_train.sh configs/pretrain/coma_vit-b_in1k.py 8

Its backbone has the names and shapes of mmpretrain's VisionTransformer; fine-tune it with any mmpretrain ViT config.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet (a summary of the paper reports 84.1 %
top-1 after fine-tuning)
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(_delete_=True, type='coma_mm.MaskedViT', arch='base', img_size=224, patch_size=16))
train_pipeline = [
    dict(type='coma_mm.LoadRandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='coma_mm.ComplementaryMask', input_size=224, unit_size=16, ratio=0.6),
    dict(type='coma_mm.PackMaskedImage'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=760, by_epoch=True, begin=40, end=800, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=800)
