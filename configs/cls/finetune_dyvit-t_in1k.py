"""Fine-tuning of DyViT-T on ImageNet-1K, 100 epochs, from CoMA's weights.

    tools/dist_train.sh configs/cls/finetune_dyvit-t_in1k.py 8

Weights: of coma_dyvit-t_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE
Hardware: 8 GPUs x 128 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'finetune_dyvit-b_in1k.py'
model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(checkpoint='work_dirs/coma_dyvit-t_in1k/epoch_200.pth'),
    ),
    head=dict(in_channels=512),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
