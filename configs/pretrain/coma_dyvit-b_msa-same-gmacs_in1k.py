"""Ablation of DM-MSA: plain self-attention in all stages, and as many blocks fewer as make the operations equal.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_msa-same-gmacs_in1k.py 8

Depths 1 1 8 2 instead of 2 2 10 2, within 1 % of DyViT-B's GMACs (tests/test_configs.py).
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_msa_in1k.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, dims=(128, 256, 512, 1024), depths=(1, 1, 8, 2), heads=(2, 4, 8, 16))),
)
