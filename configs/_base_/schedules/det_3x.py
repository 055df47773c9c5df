"""The same for 36 epochs."""

_base_ = './det_1x.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', milestones=[27, 33]),
]
train_cfg = dict(max_epochs=36)
