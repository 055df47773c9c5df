"""The original MAE: 75 % of the patches hidden, the class token in the decoder, a plain ViT-B/16.

    tools/dist_train.sh configs/pretrain/mae_vit-b_in1k.py 8

Loss and gradients are those of mmpretrain's MAE on the same weights, images and masks.
Test: tests/models/test_masked_vit.py.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet (MAE's authors: 83.6 % top-1 after
fine-tuning, from 1600 epochs)
"""

_base_ = 'coma_vit-b_in1k.py'
model = dict(backbone=dict(decode_cls_token=True), evaluation=dict(mode='off'))
train_pipeline = [
    dict(type='coma_mm.LoadRandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='coma_mm.ComplementaryMask', input_size=224, unit_size=16, ratio=0.75),
    dict(type='coma_mm.PackMaskedImage'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
