"""Detection and segmentation in two processes: no parameter is unused, and the losses are those of the joined batch."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from ranks import on_ranks

CONFIGS = Path(__file__).parents[1] / 'configs'
# Which parameters of the backbone are trained does not depend on the head behind it: all depths with one of them.
CASES = [('segmentor', frozen) for frozen in (-1, 0, 2, 4)] + [('fcos', -1), ('mask_rcnn', -1), ('mask_rcnn', 2)]
SIZE = 64


def small_dyvit(frozen):
    return dict(type='coma_mm.DyViT', arch='pico', out_indices=(0, 1, 2, 3), frozen_stages=frozen, attn_window=1)


def segmentor(frozen):
    """The shipped UperNet, small, without dropout and with norms that do not look at the batch."""
    model = Config.fromfile(CONFIGS / 'seg/upernet_dyvit-t_160k_ade20k-512.py').model
    model.update(data_preprocessor=None, test_cfg=dict(mode='whole'))
    model.backbone = small_dyvit(frozen)  # update() would merge them
    norm = dict(type='GN', num_groups=1)
    model.decode_head.update(in_channels=[32, 64, 128, 256], channels=16, num_classes=3, dropout_ratio=0, norm_cfg=norm)
    model.auxiliary_head.update(in_channels=128, channels=16, num_classes=3, dropout_ratio=0, norm_cfg=norm)
    return 'mmseg', model


def mask_rcnn(frozen):
    """The shipped Mask R-CNN, small; its samplers and averages look at the images of one process."""
    model = Config.fromfile(CONFIGS / 'det/mask-rcnn_dyvit-t_fpn_1x_coco.py').model
    model.data_preprocessor, model.backbone = None, small_dyvit(frozen)
    model.neck.update(in_channels=[32, 64, 128, 256])
    model.roi_head.bbox_head.fc_out_channels = 32
    model.train_cfg.rpn_proposal.max_per_img, model.train_cfg.rcnn.sampler.num = 64, 16  # regions take most of the time
    return 'mmdet', model


def fcos(frozen):
    """mmdet's FCOS, whose losses are averaged over all processes."""
    head = dict(type='FCOSHead', num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1)
    neck = dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=32, num_outs=5)
    head['strides'] = [4, 8, 16, 32, 64]
    head['norm_cfg'] = dict(type='GN', num_groups=4)
    model = dict(type='FCOS', backbone=small_dyvit(frozen), neck=neck, bbox_head=head, data_preprocessor=None)
    return 'mmdet', model


def build(make, frozen):
    scope, cfg = make(frozen)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
    return model.double() if make is segmentor else model


def batch(make):
    generator = torch.Generator().manual_seed(1)
    samples = []
    for i in range(2):
        meta = dict(
            img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE)
        )
        if make is segmentor:
            from mmseg.structures import SegDataSample

            labels = torch.randint(0, 3, (1, SIZE, SIZE), generator=generator)
            samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
        else:
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks

            boxes = torch.tensor([[4.0, 6, 40, 50], [20, 20, 60, 60]])[: i + 1]
            masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist()):
                mask[y1:y2, x1:x2] = 1
            things = InstanceData(bboxes=boxes, labels=torch.arange(i + 1))
            things.masks = BitmapMasks(masks.numpy(), SIZE, SIZE)
            none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
            samples.append(DetDataSample(metainfo=meta, gt_instances=things, ignored_instances=none))
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    return images.double() if make is segmentor else images, samples


def step(model, inputs, samples):
    """Take two optimiser steps (the second notices parameters that the first left out); return the last losses."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        losses = model(inputs, samples, mode='loss')
        losses = {
            name: sum(value) if isinstance(value, list) else value for name, value in losses.items() if 'loss' in name
        }
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


def rank(number, path):
    for name, frozen in CASES:
        make = globals()[name]
        inputs, samples = batch(make)
        model = MMDistributedDataParallel(build(make, frozen), broadcast_buffers=False)
        losses = step(model, inputs[number : number + 1], samples[number : number + 1])
        torch.save((losses, model.module.state_dict()), f'{path}/{name}{frozen}-{number}.pth')


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    path = tmp_path_factory.mktemp('ranks')
    on_ranks(2, rank, path)
    return path


@pytest.mark.parametrize('name, frozen', [case for case in CASES if case[0] != 'mask_rcnn'])
def test_two_ranks_equal_the_joined_batch(name, frozen, two_ranks):
    make = globals()[name]
    model = build(make, frozen)
    losses = step(model, *batch(make))
    (first, state), (second, _) = (torch.load(two_ranks / f'{name}{frozen}-{number}.pth') for number in range(2))
    for name, value in losses.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-6, atol=1e-6, msg=name)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize('frozen', [-1, 2])
def test_both_ranks_of_mask_rcnn_have_the_same_weights(frozen, two_ranks):
    (first, state), (second, other) = (torch.load(two_ranks / f'mask_rcnn{frozen}-{number}.pth') for number in range(2))
    assert first != second  # each had an image of its own
    for name, value in state.items():
        assert torch.equal(value, other[name]), name
