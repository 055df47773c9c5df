"""Configs that follow a file of weights: its backbone, and how its images come in."""

from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from ..checkpoints.reading import read_checkpoint
from ..checkpoints.settings import FROM
from ..engine.checks.data import BUILDERS
from ..engine.common import LOADERS, find_steps
from ..models.architectures import read_arch, read_shaping
from ..recipe import take_middle
from ..utils.configs import type_name, walk_dicts
from .source import check_types, find_backbone, find_normalisation

SIZES = dict(ResizeEdge='scale', CenterCrop='crop_size', RandomResizedCrop='scale', LoadRandomResizedCrop='scale')
COLOURS = 'ReverseChannels', 'RandAugment', 'RandomErasing', 'ColorJitter'  # steps that are made for three channels


def follow_weights(cfg: Config, options: Iterable[str] = ()) -> None:
    """Copy the backbone's settings from FILE into a config with ``model.backbone.arch='from:FILE'``.

    Of mmpretrain's classifiers the neck and the head follow as well, and so do the size, channels and normalisation of
    images. Settings that ``options`` names, and what is in them, stay as they are.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    arch = backbone.get('arch')
    if type_name(backbone.get('type')) != 'DyViT' or not isinstance(arch, str) or not arch.startswith(FROM):
        return
    file, before = arch.removeprefix(FROM), backbone.get('img_size', 224)
    checkpoint = read_checkpoint(file)
    backbone.update(read_shaping(file, checkpoint))
    if type_name(cfg.model.type) != 'ImageClassifier':
        return
    width = read_arch(backbone['arch'])[0][backbone.get('out_indices', (3,))[-1]]
    neck = cfg.model.get('neck') or []
    parts = [('neck', part) for part in (neck if isinstance(neck, list) else [neck])]
    for place, part in [*parts, ('head', cfg.model.get('head') or {})]:
        for name in {'input_features', 'in_channels'} & part.keys():
            if not any(option.startswith(f'model.{place}') and option.endswith(name) for option in options):
                part[name] = width
    fit_images(cfg, checkpoint, before, options)


def take_backbone_of(cfg: Config, checkpoint: str, options: Iterable[str] = ()) -> None:
    """Set the backbone, and how images are read, to those that the checkpoint was trained with.

    Its backbone, image size and normalisation replace those of the config, as far as it says them.
    """
    try:
        read = read_checkpoint(checkpoint)
        backbone, scope, _ = find_backbone(read, None)
    except ValueError:  # bare weights say nothing: the config's it is
        return
    check_types(backbone, scope)
    ours = {**cfg.model.backbone}
    names = [name for name in ('arch', 'img_size', 'patch_size') if name in backbone]
    different = [f'{name}={backbone[name]}' for name in names if ours.get(name) != backbone[name]]
    if different:
        print(f'the backbone is that of {checkpoint}: {", ".join(different)}', flush=True)
    cfg.model.backbone = ConfigDict({**backbone, '_scope_': scope})
    fit_images(cfg, read, ours.get('img_size', 224), options)


def fit_images(cfg: Config, checkpoint: dict, before: int | Sequence[int], options: Iterable[str]) -> None:
    """Read, scale and normalise images as those that a backbone was trained with, as far as its checkpoint says.

    Of their sizes only squares are followed.

    Args:
        before: Size of images that the pipelines are meant for.
    """
    known = find_normalisation(checkpoint)
    values = {'model.data_preprocessor', 'model.data_preprocessor.mean', 'model.data_preprocessor.std'}
    if known.get('mean') and cfg.model.get('data_preprocessor') and not values & {*options}:
        cfg.model.data_preprocessor.update(mean=known['mean'], std=known['std'])
    if any('pipeline' in name for name in options):
        return
    loading = {name: known[name] for name in ('channels', 'value_range') if known.get(name) is not None}
    loading.setdefault('channels', cfg.model.backbone.get('in_channels', 3))
    sizes = before, cfg.model.backbone.get('img_size', 224)
    (old, _), (new, width) = (2 * (one,) if isinstance(one, int) else tuple(one) for one in sizes)
    parts = [cfg.get(name) for name in (*BUILDERS.values(), 'test_cfg')]
    steps = {id(step): step for step in find_steps(parts, (*LOADERS, *SIZES))}  # loaders share their pipelines
    for step in steps.values():
        kind = type_name(step['type'])
        if kind in LOADERS:
            step.update(loading)
        if kind in SIZES and new == width:
            side: Any = step[SIZES[kind]]
            step[SIZES[kind]] = round(side * new / old) if kind == 'ResizeEdge' else new if side == old else side
    if loading['channels'] != 3:
        for _, node in walk_dicts(parts):
            if isinstance(node.get('pipeline'), list):
                node['pipeline'] = for_channels(node['pipeline'])


def for_channels(pipeline: Sequence[dict]) -> list[dict]:
    """Return a pipeline for other channels than three: without colours, and scaled by a step that knows them."""
    first, *rest = [step for step in pipeline if type_name(step['type']) not in COLOURS]
    kinds = [type_name(step['type']) for step in rest]
    if type_name(first['type']) == 'LoadImage' and {'CenterCrop', 'RandomResizedCrop'} & {*kinds}:
        side = next(step[SIZES[kind]] for step, kind in zip(rest, kinds) if kind in ('CenterCrop', 'RandomResizedCrop'))
        first = {**first, 'type': 'coma_mm.LoadRandomResizedCrop', 'scale': side}
        if 'CenterCrop' in kinds:
            first = take_middle(first)
        rest = [step for step, kind in zip(rest, kinds) if kind not in SIZES]
    return [first, *rest]
