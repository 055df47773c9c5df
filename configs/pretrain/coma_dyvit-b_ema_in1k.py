"""Ablation: the evaluation branch is a moving average of the encoder (momentum = share of the new weights).

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_ema_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(evaluation=dict(mode='ema', momentum=0.004))
