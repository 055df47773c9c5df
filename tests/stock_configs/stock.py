"""The toolboxes' own configs with DyViT in place of their backbone, and a step with them."""

from copy import deepcopy

import numpy as np
import tiny_run
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from coma_mm.engine.checks.channels import check_channels

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
    'mmdet:vfnet/vfnet_r50_fpn_1x_coco.py': {},
    'mmdet:reppoints/reppoints-moment_r50_fpn_1x_coco.py': {},
    'mmdet:ddod/ddod_r50_fpn_1x_coco.py': dict(
        neck=dict(num_outs=3),
        bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32])),  # DCN needs 3 x 3
    ),
    'mmdet:guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py': {},
    'mmdet:gfl/gfl_r50_fpn_1x_coco.py': {},
    'mmdet:tood/tood_r50_fpn_1x_coco.py': {},
    'mmdet:yolox/yolox_tiny_8xb8-300e_coco.py': dict(data_preprocessor=dict(RGB, batch_augments=None)),
    'mmdet:yolof/yolof_r50-c5_8xb8-1x_coco.py': dict(data_preprocessor=RGB),
    'mmdet:faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:pafpn/faster-rcnn_r50_pafpn_1x_coco.py': {},
    'mmdet:sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py': dict(rpn_head=dict(num_proposals=20)),
    'mmdet:mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py': {},
    'mmdet:htc/htc_r50_fpn_1x_coco.py': dict(data_preprocessor=dict(pad_mask=True)),
    'mmdet:solov2/solov2_r50_fpn_1x_coco.py': dict(mask_head=dict(num_grids=[8, 6, 5, 4, 3], feat_channels=64)),
    'mmdet:conditional_detr/conditional-detr_r50_8xb2-50e_coco.py': dict(num_queries=30, **TWO_LAYERS),
    'mmdet:deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': dict(num_queries=30, **TWO_LAYERS),
    'mmdet:dino/dino-4scale_r50_8xb2-12e_coco.py': dict(num_queries=30, **TWO_LAYERS),
    'mmdet:maskformer/maskformer_r50_ms-16xb1-75e_coco.py': dict(panoptic_head=MASK2FORMER),
    'mmdet:mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': dict(
        data_preprocessor=dict(batch_augments=None), panoptic_head=MASK2FORMER
    ),
    'mmseg:upernet/upernet_r50_4xb4-80k_ade20k-512x512.py': dict(decode_head=dict(channels=64)),
    'mmseg:fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:psanet/psanet_r50-d8_4xb2-40k_cityscapes-512x1024.py': dict(decode_head=dict(mask_size=(9, 9))),
    'mmseg:deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py': {},
    'mmseg:sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py': {},
    'mmseg:segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': {},
    'mmseg:segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py': dict(test_cfg=dict(mode='whole')),
    'mmseg:segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py': {},
    'mmseg:knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py': {},
    'mmseg:maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py': dict(
        decode_head=dict(num_queries=10, transformer_decoder=dict(num_layers=2))
    ),
    'mmseg:mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': dict(decode_head=MASK2FORMER),
    'mmpretrain:resnet/resnet50_8xb32_in1k.py': {},
    'mmpretrain:swin_transformer/swin-tiny_16xb64_in1k.py': {},
    'mmpretrain:convnext/convnext-tiny_32xb128_in1k.py': dict(neck=dict(type='GlobalAveragePooling')),
    'mmpretrain:arcface/resnet50-arcface_8xb32_inshop.py': dict(prototype=torch.eye(256), head=dict(num_classes=10)),
    'mmpretrain:simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py': dict(neck=dict(hid_channels=64)),
    'mmpretrain:mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py': dict(neck=dict(hid_channels=64)),
}


def use_dyvit(model):
    """Replace the backbone; ask it for those stages only that are used, and tell necks and heads their channels."""
    neck = model.get('neck') or {}
    heads = [model.get(name) for name in ('decode_head', 'auxiliary_head', 'panoptic_head', 'head')]
    heads = [head for some in heads for head in (some if isinstance(some, list) else [some]) if head]
    heads = [head.get('kernel_generate_head', head) for head in heads]
    heads = [head for head in heads if head.get('in_channels')]
    if isinstance(neck.get('in_channels'), list):
        stages = range(4 - len(neck.in_channels) + neck.pop('start_level', 0), 4)
        neck.in_channels = [CHANNELS[i] for i in stages]
    elif 'head' in model or 'in_channels' in neck:
        stages = (3,)
        for part in (neck, model.get('head', {})):
            if 'in_channels' in part:
                part.in_channels = CHANNELS[3]
    else:
        indices = [
            np.atleast_1d(head.get('in_index', range(4) if isinstance(head.in_channels, list) else 3)) for head in heads
        ]
        stages = {int(i) for some in indices for i in some}
        for head in heads:
            if 'c1_in_channels' in head:  # DeepLabV3+ reads the first map besides
                stages.add(0)
                head.c1_in_channels = CHANNELS[0]
        stages = sorted(stages)
        for head, some in zip(heads, indices):
            channels = [CHANNELS[i] for i in some]
            head.in_channels = channels if isinstance(head.in_channels, list) else channels[0]
            if 'in_index' in head:
                positions = [stages.index(i) for i in some]
                head.in_index = positions if isinstance(head.in_index, (list, tuple)) else positions[0]
    backbone = dict(type='coma_mm.DyViT', arch='pico', out_indices=list(stages), attn_window=2)
    if 'image_encoder' in model:
        model.image_encoder[0] = backbone
    else:
        model.backbone = backbone
    if 'pretrained' in model:  # of mmseg: weights for the backbone that was
        model.pretrained = None


def stock(name):
    """Return a config that comes with a toolbox."""
    return tiny_run.stock(*name.split(':'))


def build(package, cfg):
    init_default_scope(package)
    if 'backbone' in cfg.model:
        cfg.model.backbone.init_cfg = None
    rcnn = (cfg.model.get('train_cfg') or {}).get('rcnn', [])
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 16  # fewer regions, whose heads take most of the time
    if (cfg.model.get('test_cfg') or {}).get('rpn'):
        cfg.model.test_cfg.rpn.max_per_img = 50
    if package == 'mmseg':
        cfg.model.data_preprocessor.update(size=None, size_divisor=32)
    if package == 'mmpretrain':
        cfg.model.data_preprocessor = {'type': 'ClsDataPreprocessor', **cfg.data_preprocessor}
    model = revert_sync_batchnorm(MODELS.build(deepcopy(cfg.model)))
    check_channels(model)
    model.init_weights()
    return model


def batch(preprocessor, sizes):
    """Make images and annotations, as a toolbox's data loader would."""
    package, kind = preprocessor.__module__.split('.')[0], type(preprocessor).__name__
    generator = torch.Generator().manual_seed(0)
    if package == 'mmdet':
        shapes, masks, segments = [(3, *size) for size in sizes], preprocessor.pad_mask, preprocessor.pad_seg
        return demo_mm_inputs(len(sizes), shapes, [2, 1][: len(sizes)], 80, with_mask=masks, with_semantic=segments)
    if kind == 'SelfSupDataPreprocessor':
        views = [torch.randint(0, 256, (4, 3, *sizes[0]), dtype=torch.uint8, generator=generator) for _ in range(2)]
        return dict(inputs=views, data_samples=[DataSample() for _ in range(4)])
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
    """Take a step but for the optimizer's part; return the model."""
    torch.manual_seed(0)
    model = build(package, cfg).train()
    MessageHub.get_current_instance().update_info('epoch', 0)  # TOOD asks for it
    data = model.data_preprocessor(batch(model.data_preprocessor, train_sizes), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    left_out = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not left_out
    if isinstance(model, BaseSelfSupervisor) or 'GARetinaHead' in str(cfg.model):
        return model  # has nothing to predict; predicts by an op that mmcv has for GPUs only
    with torch.no_grad():
        results = model.eval().test_step(batch(model.data_preprocessor, test_sizes))
    assert len(results) == len(test_sizes)
    if package == 'mmseg':
        assert results[0].pred_sem_seg.shape == test_sizes[0]
    return model
