"""Ablation: a decoder of 8 ConvNeXt blocks instead of 8 ViT blocks (the paper's partner).

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_convnext-decoder_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(decoder=dict(_delete_=True, type='coma_mm.ConvNeXtDecoder', dim=512, depth=8))
