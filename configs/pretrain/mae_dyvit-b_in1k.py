"""The baseline: plain masked autoencoding with the same encoder, decoder and masks, no evaluation branch.

    tools/dist_train.sh configs/pretrain/mae_dyvit-b_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(evaluation=dict(mode='off'))
