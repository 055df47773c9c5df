"""Variant: hidden units spread evenly over 2 x 2 neighbourhoods instead of anywhere.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_stratified_in1k.py 8

Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
train_pipeline = _base_.train_pipeline
train_pipeline[2]['strategy'] = 'stratified'
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
