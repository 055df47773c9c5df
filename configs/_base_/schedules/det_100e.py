"""100 epochs at global batch 64; the rate drops after 89 and 96 % of them, as in ViTDet."""

_base_ = './det_1x.py'

optim_wrapper = dict(optimizer=dict(weight_decay=0.1), paramwise_cfg=dict(layer_decay_rate=0.7))
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], milestones=[89, 96])]
train_cfg = dict(max_epochs=100, val_interval=10)
auto_scale_lr = dict(base_batch_size=64)
