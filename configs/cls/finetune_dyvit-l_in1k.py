"""Fine-tuning of DyViT-L on ImageNet-1K, 100 epochs, from CoMA's weights.

    tools/dist_train.sh configs/cls/finetune_dyvit-l_in1k.py 8

Weights: of coma_dyvit-l_in1k.py, or --cfg-options model.backbone.init_cfg.checkpoint=FILE
Hardware: 8 GPUs x 128 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'finetune_dyvit-b_in1k.py'
model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/coma_dyvit-l_in1k/epoch_200.pth'),
    ),
    head=dict(in_channels=1536),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
