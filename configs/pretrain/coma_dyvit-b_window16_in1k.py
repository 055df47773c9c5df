"""Ablation of DM-MSA: one window of 16 px for all heads instead of 16 and 32 px.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_window16_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(windows=(4, 2, None, None)))
