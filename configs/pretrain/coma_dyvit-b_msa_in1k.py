"""Ablation of DM-MSA: plain self-attention in all stages, which costs 40 % more operations.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_msa_in1k.py 8

At equal operations: coma_dyvit-b_msa-same-gmacs_in1k.py.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(backbone=dict(attention=('msa', 'msa', 'msa', 'msa')))
