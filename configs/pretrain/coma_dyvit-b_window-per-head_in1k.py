"""Ablation of DM-MSA: each head sees one window, of 8 to 32 px, so no query weighs one scale against another.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_window-per-head_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(windows=([4, 8], [1, 2, 2, 4], None, None)))
