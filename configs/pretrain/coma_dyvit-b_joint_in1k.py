"""Upper reference: gradient through both branches, at more than twice the encoder's backward cost.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_joint_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(evaluation=dict(mode='joint'))
