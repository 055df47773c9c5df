"""The baseline of coma_vit-b_in1k.py: plain masked autoencoding, no evaluation branch.

    tools/dist_train.sh configs/pretrain/mae_vit-b_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_vit-b_in1k.py'
model = dict(evaluation=dict(mode='off'))
