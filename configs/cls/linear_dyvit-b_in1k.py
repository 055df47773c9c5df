"""Linear probe of DyViT-B on ImageNet-1K, 90 epochs: how good CoMA's features are as they come.

    tools/dist_train.sh configs/cls/linear_dyvit-b_in1k.py 8

The backbone is frozen; the mean of its last map goes through a BatchNorm without weights of its own and a linear layer,
as in MAE's linear probe.
Weights: of coma_dyvit-b_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE
Data: data/imagenet/{train,val}/<class>/*, mmpretrain's ImageNet
Hardware: 8 GPUs x 2048 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs ImageNet
"""

_base_ = [
    '../_base_/models/dyvit-b_cls.py',
    '../_base_/datasets/imagenet_cls.py',
    '../_base_/schedules/linear_90e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(frozen_stages=4),
    neck=[dict(type='GlobalAveragePooling'), dict(type='coma_mm.BatchNormNeck', input_features=1024)],
)
train_dataloader = dict(batch_size=2048)
custom_hooks = [
    dict(type='coma_mm.StopOnNaNHook', interval=100),
    dict(type='SyncBuffersHook'),  # all processes validate and save the same statistics
]
