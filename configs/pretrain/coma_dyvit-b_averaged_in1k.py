"""Ablation of DM-MSA: dense convolutions on keys and values, which average and start as the mean.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_averaged_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(kv_conv='averaged'))
