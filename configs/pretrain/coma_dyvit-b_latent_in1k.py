"""Variant of ours: beside its pixels the decoder predicts the token that the evaluation branch has of each hidden unit.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_latent_in1k.py 8

Without it the evaluation branch acts on the encoder through the decoder only. What it brings on CIFAR-10:
docs/evidence.md. Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(latent_weight=1.0)
