"""CoMA pre-training of DyViT-L with weights, gradients and optimizer state sharded over the GPUs (FSDP).

    tools/dist_train.sh configs/pretrain/coma_dyvit-l_fsdp_in1k.py 8

This is an example for larger models: DyViT-L fits without FSDP. Steps and checkpoints are those of
coma_dyvit-l_in1k.py. The run draws no pictures: use tools/visualize.py with a checkpoint.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-l_in1k.py'
runner_type = 'FlexibleRunner'
strategy = dict(type='coma_mm.FSDPStrategy')
looking = ('coma_mm.ReconstructionHook', 'coma_mm.FeaturesHook', 'coma_mm.QualityHook')
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type not in looking]
