"""Variant: predict pixels as they are, not normalised per unit.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_pixels_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(norm_pix=False)
