"""A pre-training run of seconds in mmengine's pure-Python style: classes in place of their names."""

from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import CheckpointHook
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.models import SelfSupDataPreprocessor
from torch.optim import AdamW

from coma_mm.datasets import ComplementaryMask, LoadRandomResizedCrop, Photos
from coma_mm.engine import AutocastOptimWrapper, ReconstructionHook
from coma_mm.models import CoMA, DyViT, ViTDecoder

default_scope = 'mmpretrain'
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=default_collate),
    dataset=dict(
        type=Photos,
        length=4,
        pipeline=[
            dict(type=LoadRandomResizedCrop, scale=48),
            dict(type=ComplementaryMask, input_size=48, unit_size=16, ratio=0.6),
            dict(type=PackInputs),
        ],
    ),
)
model = dict(
    type=CoMA,
    backbone=dict(
        type=DyViT,
        arch=dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
        img_size=48,
        patch_size=2,
    ),
    decoder=dict(type=ViTDecoder, dim=64, depth=1, num_heads=4),
    data_preprocessor=dict(type=SelfSupDataPreprocessor, mean=[127.5] * 3, std=[60.0] * 3),
)
optim_wrapper = dict(type=AutocastOptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
env_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1))
custom_hooks = [dict(type=ReconstructionHook, num_images=2)]
