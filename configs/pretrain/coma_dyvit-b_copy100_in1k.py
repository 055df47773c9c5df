"""Ablation: the evaluation branch takes over the encoder's weights every 100 iterations only.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_copy100_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(evaluation=dict(mode='copy', interval=100))
