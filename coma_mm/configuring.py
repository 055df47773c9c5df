"""Configs of detectors and segmentors, from weights and annotated images: ``coma-mm config det|seg``."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from .datasets.coco_file import CocoFile
from .datasets.labelled import HELD_OUT
from .datasets.mask_folder import MaskFolder
from .engine.common import find_steps
from .engine.runner.config_files import read_recipe
from .export.extractor import Weights, open_for_training
from .export.source import without_weights
from .recipe import WARM_UP, Passes, count_workers
from .utils.configs import type_name
from .utils.files import write_together

DETECTOR = 'det/mask-rcnn_dyvit-t_fpn_1x_coco.py'
SEGMENTOR = 'seg/upernet_dyvit-t_20k_folder-512.py'
STAGES = 0, 1, 2, 3
PATCH = 4  # pixels, which the sizes of the recipes are meant for
SHORT, LONG, CROP = 800, 1333, 512  # pixels at that patch size
PASSES = Passes(12, 100_000, 0.3, 12, 100)  # a guess


@dataclass
class Backbone:
    """A pre-trained backbone as a part of a detector or segmentor."""

    weights: Weights
    settings: dict[str, Any]  # of the backbone in the new config
    channels: list[int]  # of its four maps
    strides: list[int]  # of these, in pixels

    @property
    def scale(self) -> float:
        """Pixels of a patch, over those that the recipes are made for."""
        return self.strides[0] / PATCH

    def round(self, side: float) -> int:
        """Return a side in pixels as a multiple of the largest stride."""
        return max(1, round(side / self.strides[-1])) * self.strides[-1]


def open_backbone(name: str) -> Backbone:
    """Read weights, and refuse those whose backbone does not return four maps."""
    weights, settings = open_for_training(name)
    settings['out_indices'] = STAGES
    height, width = weights.size
    is_dyvit = type_name(settings['type']) == 'DyViT'
    if is_dyvit:  # blocks of the size of pre-training
        unit = weights.extractor.backbone.unit_size
        settings.update(attn_window=max(1, min(height, width) // unit), drop_path_rate=0.1)
    try:
        init_default_scope('mmengine')
        with torch.no_grad():
            maps = MODELS.build(without_weights(settings)).eval()(
                torch.zeros(1, weights.settings['channels'], height, width)
            )
    except Exception as error:  # as many kinds as there are backbones
        raise ValueError(f'{settings["type"]} of {name} returns no maps of four stages: {error}') from None
    if not isinstance(maps, (tuple, list)) or len(maps) != len(STAGES) or any(one.dim() != 4 for one in maps):
        raise ValueError(
            f'{settings["type"]} of {name} does not return maps of four stages, which FPN and UperNet take'
        )
    strides = [round(height / one.shape[2]) for one in maps]
    return Backbone(weights, settings, [one.shape[1] for one in maps], strides)


@dataclass
class Options:
    """Options of ``coma-mm config``; what is ``None`` follows from weights and data."""

    out: Path  # the config to write
    size: int | None = None  # short side of images (detectors), or side of crops (segmentors), in pixels
    batch_size: int | None = None
    epochs: int | None = None

    def beside(self, ending: str) -> str:
        """Return the path of a file beside the config."""
        return str(self.out.absolute().with_name(self.out.stem + ending))

    def passes(self, images: int) -> int:
        """Return how many passes over so many images a run has."""
        return self.epochs or PASSES.over(images)


def configure_detector(backbone: Backbone, train: CocoFile, val: CocoFile | None, options: Options) -> str:
    """Write the config of a Mask R-CNN, or of a Faster R-CNN where masks are missing; return a line on it.

    Without ``val`` a fifth of the images is held out, by files beside the config.
    """
    cfg = read_recipe(DETECTOR)
    batch, has_masks = options.batch_size or 2, not train.unmasked and not (val and val.unmasked)
    set_detector(cfg.model, backbone, len(train.classes), has_masks)
    set_pixels(cfg, backbone)
    short = options.size or backbone.round(SHORT * backbone.scale)
    for step in find_steps([cfg.train_dataloader, cfg.val_dataloader], ('Resize', 'LoadAnnotations')):
        step.update(dict(scale=(round(short * LONG / SHORT), short)) if 'scale' in step else dict(with_mask=has_masks))
    files = {name: str(found.path) for name, found in (('train', train), ('val', val)) if found}
    images, texts = len(train.content['images']), {}
    if val is None:
        parts = train.split(HELD_OUT)
        images = len(parts[0]['images'])
        for name, content in zip(('train', 'val'), parts):
            files[name] = options.beside(f'_{name}.json')
            texts[files[name]] = json.dumps(content)
    for name, folder in (('train', train.folder), ('val', (val or train).folder)):
        dataset = cfg[f'{name}_dataloader'].dataset
        dataset.update(data_root='', ann_file=files[name], data_prefix=dict(img=f'{folder}/'))
        dataset.metainfo = dict(classes=tuple(train.classes))
    cfg.val_evaluator.update(ann_file=files['val'], metric=['bbox', 'segm'] if has_masks else ['bbox'])
    epochs = options.passes(images)
    interval = max(1, epochs // 12)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=interval)
    cfg.param_scheduler[0].end = min(1000, max(2, round(WARM_UP * epochs * images / batch)))
    cfg.param_scheduler[1].milestones = [max(1, epochs * 2 // 3), max(2, epochs * 11 // 12)]
    best = 'coco/segm_mAP' if has_masks else 'coco/bbox_mAP'
    cfg.default_hooks.checkpoint.update(interval=interval, save_best=best, rule='greater')
    write_config(cfg, batch, options.out, texts)
    kind, length = 'Mask R-CNN' if has_masks else 'Faster R-CNN', f'{epochs} epoch{"s" * (epochs > 1)}'
    return f'{kind}, {len(train.classes)} classes, short side {short} px, {length} of {images} images'


def set_detector(model: ConfigDict, backbone: Backbone, classes: int, has_masks: bool) -> None:
    """Fit a Mask R-CNN to the maps of a backbone; without masks it becomes a Faster R-CNN."""
    model.backbone = ConfigDict(backbone.settings)
    model.neck.in_channels = backbone.channels
    model.rpn_head.anchor_generator.strides = [*backbone.strides, 2 * backbone.strides[-1]]
    for part in ('bbox', 'mask'):
        model.roi_head[f'{part}_roi_extractor'].featmap_strides = backbone.strides
        model.roi_head[f'{part}_head'].num_classes = classes
    if not has_masks:
        model.type = 'FasterRCNN'
        for node, names in (
            (model.roi_head, ('mask_roi_extractor', 'mask_head')),
            (model.train_cfg.rcnn, ('mask_size',)),
            (model.test_cfg.rcnn, ('mask_thr_binary',)),
        ):
            for name in names:
                node.pop(name, None)


def configure_segmentor(backbone: Backbone, data: MaskFolder, options: Options) -> str:
    """Write the config of a UperNet; return a line on it.

    A folder without ``train`` and ``val`` has a fifth of its images held out, by lists beside the config.
    """
    cfg = read_recipe(SEGMENTOR)
    batch, crop = options.batch_size or 8, options.size or backbone.round(CROP * backbone.scale)
    backbone.settings.pop('attn_window', None)  # windows of the test are as large as the crops
    cfg.model.backbone = ConfigDict(backbone.settings)
    for head, channels in (('decode_head', backbone.channels), ('auxiliary_head', backbone.channels[2])):
        cfg.model[head].update(in_channels=channels, num_classes=len(data.classes))
    cfg.model.data_preprocessor.size = (crop, crop)
    cfg.model.test_cfg.update(crop_size=(crop, crop), stride=(crop * 2 // 3, crop * 2 // 3))
    set_pixels(cfg, backbone)
    for step in find_steps([cfg.train_dataloader, cfg.val_dataloader], ('RandomResize', 'Resize', 'RandomCrop')):
        step.update(dict(scale=(4 * crop, crop)) if 'scale' in step else dict(crop_size=(crop, crop)))
    stems, lists, texts = data.stems, dict(train='', val=''), {}
    if 'all' in stems:
        stems = dict(zip(lists, data.split(HELD_OUT)))
        for name in lists:
            lists[name] = options.beside(f'_{name}.txt')
            texts[lists[name]] = '\n'.join(stems[name]) + '\n'
    for name, listed in lists.items():
        dataset, folders = cfg[f'{name}_dataloader'].dataset, data.pairs.get(name) or data.pairs['all']
        dataset.update(data_root=str(data.root), img_suffix=data.endings[0], seg_map_suffix=data.endings[1])
        dataset.update(data_prefix=dict(zip(('img_path', 'seg_map_path'), folders)), ann_file=listed)
        dataset.metainfo = dict(classes=tuple(data.classes))
    images = len(stems['train'])
    steps = max(1, math.ceil(options.passes(images) * images / batch))
    interval, warm_up = max(1, steps // 10), min(1500, max(2, round(WARM_UP * steps)))
    cfg.train_cfg.update(max_iters=steps, val_interval=interval)
    cfg.default_hooks.checkpoint.interval = interval
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = warm_up
    cfg.param_scheduler[1].end = max(warm_up + 1, steps)
    for name in ('tta_pipeline', 'tta_model'):
        cfg.pop(name, None)
    write_config(cfg, batch, options.out, texts)
    return f'UperNet, {len(data.classes)} classes, crops of {crop} px, {images} images, {steps} steps of {batch}'


def set_pixels(cfg: Config, backbone: Backbone) -> None:
    """Set how a config reads and normalises images to what the weights say."""
    weights, preprocessor = backbone.weights, cfg.model.data_preprocessor
    is_rgb = not weights.extractor.data_preprocessor._channel_conversion
    reading = weights.reading
    preprocessor.update(weights.normalisation, bgr_to_rgb=is_rgb)
    if not reading:
        return
    preprocessor.update(bgr_to_rgb=False, rgb_to_bgr=not is_rgb)  # the toolboxes' step reads BGR, and ours RGB
    left_out = 'PhotoMetricDistortion' if 'channels' in reading else None  # which is for colours
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        steps = [step for step in loader.dataset.pipeline if type_name(step.type) != left_out]
        ours = ConfigDict(type='coma_mm.LoadImage', **reading)
        loader.dataset.pipeline = [ours if type_name(step.type) == 'LoadImageFromFile' else step for step in steps]


def write_config(cfg: Config, batch: int, out: Path, texts: dict[str, str]) -> None:
    """Set batch, learning rate and workers of a config, and write it with the files that it names."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=count_workers(), persistent_workers=count_workers() > 0)
    cfg.train_dataloader.batch_size = batch
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.optim_wrapper.cpu = True  # in bf16, if it multiplies in that
    cfg.optim_wrapper.optimizer.lr = 1e-4 * math.sqrt(batch / 16)
    cfg.auto_scale_lr = None
    write_together({**texts, str(out): cfg.dump()})
