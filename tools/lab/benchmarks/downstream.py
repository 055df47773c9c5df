"""Backbones in detectors and segmentors, at usual image sizes.

All detectors have the same FPN and Mask R-CNN of mmdet. All segmentors have the same UperNet of mmseg. Their settings
are those of ``configs``.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch import nn

from coma_mm.utils.files import resource_dir

from .workloads import ATTENTION, OUR_OPTIMIZER, autocast, forward

Call = Callable[[], object]
LANDSCAPE = 800, 1216  # what Mask R-CNN's images of COCO are resized to
SWIN = dict(type='mmdet.SwinTransformer', embed_dims=96, num_heads=(3, 6, 12, 24), window_size=7)
DYVIT = dict(type='coma_mm.DyViT', arch='tiny', out_indices=(0, 1, 2, 3), attn_window=7)
OF_64 = 64, 128, 256, 512
OF_96 = 96, 192, 384, 768
# Backbone, and the channels of its four outputs.
PEERS: dict[str, tuple[dict, tuple[int, ...]]] = {
    'Swin-T': (dict(SWIN, depths=(2, 2, 6, 2)), OF_96),
    'Swin-S': (dict(SWIN, depths=(2, 2, 18, 2)), OF_96),
    'ConvNeXt-T': (
        dict(type='mmpretrain.ConvNeXt', arch='tiny', out_indices=(0, 1, 2, 3), gap_before_final_norm=False),
        OF_96,
    ),
    'ResNet-50': (dict(type='mmdet.ResNet', depth=50), (256, 512, 1024, 2048)),
    'PVTv2-B2': (
        dict(type='mmdet.PyramidVisionTransformerV2', embed_dims=64, num_layers=[3, 4, 6, 3]),
        (64, 128, 320, 512),
    ),
    'DyViT-T': (DYVIT, OF_64),
    'DyViT-S': (dict(DYVIT, arch='small'), OF_96),
    'DyViT-T, windows only': (DYVIT | ATTENTION['windows only'], OF_64),
    'DyViT-T, four global blocks, all keys': (DYVIT | ATTENTION['windows and four global blocks of all keys'], OF_64),
}


def build_backbone(name: str) -> nn.Module:
    """Build a backbone with random weights."""
    return MODELS.build(PEERS[name][0])


def build_mask_rcnn(name: str) -> tuple[nn.Module, dict]:
    """Build Mask R-CNN on a backbone; return it with a batch of one image of :data:`LANDSCAPE`, ten objects."""
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(resource_dir('configs') / '_base_/models/mask-rcnn_dyvit-t_fpn.py').model
    cfg.backbone, cfg.neck.in_channels = PEERS[name][0], list(PEERS[name][1])
    data = demo_mm_inputs(1, [(3, *LANDSCAPE)], num_items=[10], num_classes=80, with_mask=True)
    model = MODELS.build(cfg)
    return model, model.data_preprocessor(data, True)


def build_upernet(name: str) -> tuple[nn.Module, dict]:
    """Build UperNet on a backbone; return it with a batch of two crops of 512 px."""
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(resource_dir('configs') / '_base_/models/upernet_dyvit-b.py').model
    cfg.backbone, channels = PEERS[name]
    cfg.decode_head.in_channels, cfg.auxiliary_head.in_channels = channels, channels[2]
    samples = [SegDataSample(metainfo=dict(img_shape=(512, 512))) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, 512, 512)))
    return revert_sync_batchnorm(MODELS.build(cfg)), dict(inputs=torch.randn(2, 3, 512, 512), data_samples=samples)


NETWORKS = {'Mask-RCNN': build_mask_rcnn, 'UperNet': build_upernet}


def make_backbone_forward(name: str, size: tuple[int, int], args: Namespace) -> Call:
    """Return a forward pass of a backbone alone, four outputs, without gradient."""
    torch.manual_seed(0)
    model = build_backbone(name).to(args.device)
    model.eval()  # on a line of its own: backbones of others return nothing
    images = torch.randn(1, 3, *size, device=args.device)
    return partial(forward, model, (images,), args)


def make_network_forward(network: str, name: str, args: Namespace) -> Call:
    """Return a forward pass of a detector or a segmentor, without gradient."""
    model, data = _place(network, name, args)
    model.eval()
    return partial(forward, model, (data['inputs'], data['data_samples'], 'tensor'), args)


def make_network_step(network: str, name: str, args: Namespace) -> Call:
    """Return a training step of a detector or a segmentor: forward, backward, AdamW."""
    model, data = _place(network, name, args)
    model.train()
    optimizer = build_optim_wrapper(model, OUR_OPTIMIZER).optimizer

    def step() -> None:
        with autocast(args):
            losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _place(network: str, name: str, args: Namespace) -> tuple[nn.Module, dict]:
    torch.manual_seed(0)
    model, data = NETWORKS[network](name)
    data['inputs'] = data['inputs'].to(args.device)
    data['data_samples'] = [sample.to(args.device) for sample in data['data_samples']]
    return model.to(args.device), data
