"""Ablation, the counterpart of coma_vit-b_in1k.py: no evaluation branch, all else the same.

    tools/dist_train.sh configs/pretrain/mae_vit-b_mask60_in1k.py 8

Unlike MAE proper (mae_vit-b_in1k.py) it hides 60 % of the patches, and the decoder does not see the class token.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_vit-b_in1k.py'
model = dict(evaluation=dict(mode='off'))
