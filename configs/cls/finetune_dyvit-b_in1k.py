"""Fine-tuning of DyViT-B on ImageNet-1K, 100 epochs, from CoMA's weights.

    tools/dist_train.sh configs/cls/finetune_dyvit-b_in1k.py 8

Weights: of coma_dyvit-b_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE (any checkpoint that holds
the backbone); from random weights with model.backbone.init_cfg=None
Data: data/imagenet/{train,val}/<class>/*, mmpretrain's ImageNet
Recipe: adapted from those of MAE and Hiera to DyViT; no setting has been tuned
Hardware: 8 GPUs x 128 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs ImageNet
"""

_base_ = [
    '../_base_/models/dyvit-b_cls.py',
    '../_base_/datasets/imagenet_cls_randaug.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=1000),  # mixed labels are one number per class
    backbone=dict(drop_path_rate=0.1),
    head=dict(
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
custom_hooks = [
    dict(type='coma_mm.StopOnNaNHook', interval=100),
    # What is validated and saved is the mean over the last tenth of the steps, after 100,000 steps over 10,000.
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10),
]
