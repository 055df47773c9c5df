"""DyViT in the toolboxes' own configs, by the changes of docs/your-config.md: loss, gradients, predictions."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from coma_mm.engine.channels import check_channels
from coma_mm.engine.cli import make_parser, read_config

DOCS = (Path(__file__).parents[1] / 'docs/your-config.md').read_text()
CHANNELS = (32, 64, 128, 256)  # of arch='pico'
ONE, TWO = [(107, 160)], [(107, 160), (90, 140)]  # height and width of the images of a batch
TWO_LAYERS = dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2))
MASK2FORMER = dict(
    num_queries=10,
    pixel_decoder=dict(encoder=dict(num_layers=1)),
    transformer_decoder=dict(num_layers=2),
)
RGB = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)

# What a config needs beyond use_dyvit(), or has less of for the test's sake.
STOCK = {
    'mmdet:retinanet/retinanet_r50_fpn_1x_coco.py': {},
    'mmdet:fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': dict(data_preprocessor=RGB),
    'mmdet:atss/atss_r50_fpn_1x_coco.py': {},
    'mmdet:rtmdet/rtmdet_tiny_8xb32-300e_coco.py': dict(data_preprocessor=dict(RGB, pad_size_divisor=32)),
    'mmdet:faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:pafpn/faster-rcnn_r50_pafpn_1x_coco.py': {},
    'mmdet:mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:conditional_detr/conditional-detr_r50_8xb2-50e_coco.py': dict(num_queries=30, **TWO_LAYERS),
    'mmdet:dino/dino-4scale_r50_8xb2-12e_coco.py': dict(num_queries=30, **TWO_LAYERS),
    'mmdet:mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': dict(
        data_preprocessor=dict(batch_augments=None), panoptic_head=MASK2FORMER
    ),
    'mmseg:upernet/upernet_r50_4xb4-80k_ade20k-512x512.py': {},
    'mmseg:fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py': {},
    'mmseg:segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': {},
    'mmseg:mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': dict(decode_head=MASK2FORMER),
    'mmpretrain:resnet/resnet50_8xb32_in1k.py': {},
    'mmpretrain:swin_transformer/swin-tiny_16xb64_in1k.py': {},
    'mmpretrain:convnext/convnext-tiny_32xb128_in1k.py': dict(neck=dict(type='GlobalAveragePooling')),
}


def use_dyvit(model):
    """Replace the backbone; ask it for those stages only that are used, and tell necks and heads their channels."""
    neck = model.get('neck') or {}
    heads = [model.get(name) for name in ('decode_head', 'auxiliary_head', 'panoptic_head', 'head')]
    heads = [head for head in heads if head and head.get('in_channels')]
    if 'in_channels' in neck:
        stages = range(4 - len(neck.in_channels) + neck.pop('start_level', 0), 4)
        neck.in_channels = [CHANNELS[i] for i in stages]
    elif 'head' in model:
        stages = (3,)
        model.head.in_channels = CHANNELS[3]
    else:
        indices = [np.atleast_1d(head.get('in_index', range(4))) for head in heads]
        stages = sorted({int(i) for some in indices for i in some})
        for head, some in zip(heads, indices):
            channels = [CHANNELS[i] for i in some]
            head.in_channels = channels if isinstance(head.in_channels, list) else channels[0]
            if 'in_index' in head:
                positions = [stages.index(i) for i in some]
                head.in_index = positions if isinstance(head.in_index, (list, tuple)) else positions[0]
    model.backbone = dict(type='coma_mm.DyViT', arch='pico', out_indices=list(stages), attn_window=2)
    if 'pretrained' in model:  # of mmseg: weights for the backbone that was
        model.pretrained = None


def stock(name):
    """Return a config that comes with a toolbox."""
    package, path = name.split(':')
    return Path(importlib.util.find_spec(package).origin).parent / '.mim/configs' / path


def build(package, cfg):
    """Build a toolbox's model."""
    init_default_scope(package)
    cfg.model.backbone.init_cfg = None
    rcnn = (cfg.model.get('train_cfg') or {}).get('rcnn', [])
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 16  # fewer regions, whose heads take most of the time
    if package == 'mmseg':
        cfg.model.data_preprocessor.update(size=None, size_divisor=32)
    if package == 'mmpretrain':
        cfg.model.data_preprocessor = dict(type='ClsDataPreprocessor', **cfg.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    check_channels(model)
    model.init_weights()
    return model


def batch(package, sizes, with_mask):
    """Make images and annotations, as a toolbox's data loader would."""
    generator = torch.Generator().manual_seed(0)
    if package == 'mmdet':
        shapes = [(3, *size) for size in sizes]
        return demo_mm_inputs(len(sizes), shapes, num_items=[2, 1][: len(sizes)], num_classes=80, with_mask=with_mask)
    samples = []
    for size in sizes:
        if package == 'mmpretrain':
            samples.append(DataSample().set_gt_label(7))
        else:
            meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
            samples.append(SegDataSample(metainfo=meta))
            samples[-1].gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, *size), generator=generator))
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    return dict(inputs=images, data_samples=samples)


def check(package, cfg, train_sizes=TWO, test_sizes=ONE):
    """Take a step but for the optimizer's part; return the model and its predictions."""
    torch.manual_seed(0)
    model = build(package, cfg).train()
    with_mask = cfg.model.data_preprocessor.get('pad_mask', False)
    data = model.data_preprocessor(batch(package, train_sizes, with_mask), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    left_out = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not left_out
    with torch.no_grad():
        results = model.eval().test_step(batch(package, test_sizes, with_mask))
    assert len(results) == len(test_sizes)
    if package == 'mmseg':
        assert results[0].pred_sem_seg.shape == test_sizes[0]
    return model


@pytest.mark.parametrize('name', STOCK)
def test_loss_gradients_predictions(name):
    cfg = Config.fromfile(stock(name))
    use_dyvit(cfg.model)
    cfg.merge_from_dict(dict(model=STOCK[name]))
    check(name.split(':')[0], cfg)


def test_full_size():
    cfg = Config.fromfile(stock('mmdet:mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    use_dyvit(cfg.model)
    check('mmdet', cfg, [(427, 640)], [(427, 640)])


@pytest.mark.parametrize('text', re.findall(r'```python\n(.*?)```', DOCS, re.S))
def test_config_files_of_the_docs(text, tmp_path):
    package, base = re.search(r"_base_ = '(\w+)::(.*)'", text).groups()
    (tmp_path / 'config.py').write_text(text.replace(f'{package}::{base}', str(stock(f'{package}:{base}'))))
    cfg = Config.fromfile(tmp_path / 'config.py')
    model = check(package, cfg)
    if package != 'mmpretrain':
        decays(model, cfg)


@pytest.mark.parametrize('command', re.findall(r'tools/train.py \$(.*?)\n\n', DOCS.replace('```', '\n'), re.S))
def test_command_lines_of_the_docs(command):
    where, base, *options = shlex.split(command.replace('/', ' ', 1).replace('\\\n', ' '))
    package = where.lower()
    cfg = read_config(stock(f'{package}:{base}'), make_parser('').parse_args([base, *options]).cfg_options)
    assert 'depth' not in cfg.model.backbone
    model = check(package, cfg)
    if package == 'mmdet':
        decays(model, cfg)


def decays(model, cfg):
    """Check that the learning rate decays with the depth."""
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert len({group['lr'] for group in groups}) == model.backbone.num_blocks + 2
