"""36 epochs of AdamW for detectors, otherwise as det_1x.py."""

_base_ = './det_1x.py'

param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], milestones=[27, 33])]
train_cfg = dict(max_epochs=36)
