"""Variant: the decoder gets the tokens of all four stages, not only of the last (Hiera gains 0.6 points by it).

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_fuse-stages_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(fuse_stages=True)
