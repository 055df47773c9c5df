"""``coma_mm.finetune``: from weights and labelled images to a classifier."""

import io
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from .checkpoints.finding import find_best
from .datasets.labelled import HELD_OUT, Labelled, choose_part, find_labelled
from .datasets.loading import MAX_PIXELS, UnreadableImageError, read_image
from .datasets.value_range import find_value_range
from .export.extractor import Weights, open_for_training
from .planning import choose_length, describe_end
from .recipe import EVALUATION_FRACTION, Passes, add_budget, begin_config, set_loader, set_schedule, take_middle
from .running import link_checkpoint, run
from .settings import FinetuneSettings
from .trial import TRIED, try_out
from .utils.clock import command, command_begin
from .utils.configs import type_name
from .utils.paths import is_named, quoted_path, short_path
from .utils.text import one_line, printable

RECIPE = 'cls/finetune_dyvit-b_folder.py'
CLASSIFIER = 'classifier.pth'  # name in the run's folder
LR = 1e-3  # peak of the learning rate at 256 images a step
EVALUATIONS = 20  # validations of a run, about
MIN_TO_MIX = 10_000  # images from which on they are mixed: a short run on few images has no time to learn from mixtures
PASSES = Passes(50, 10_000, 0.3, 20, 200)  # what is usual; not measured


@command()
def finetune(
    weights: str | PathLike | None,
    data: str | PathLike | None,
    out: str | PathLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    serve: int | None = None,
    **settings: Any,
) -> Path:
    """Fine-tune weights to a classifier of labelled images.

    Args:
        weights: The folder of a run, a file that says which backbone it has, or an address.
        data: A folder with a sub-folder of images for each class, or with ``train`` and ``val``, which have these.
        out: The run's folder. At the end it has ``classifier.pth``, the best checkpoint, ``config.py``,
            ``report.html``, and the run's logs and newest checkpoints.
        resume: As of :func:`coma_mm.pretrain`, like ``overwrite`` and ``serve``.
        **settings: Those of a new run, such as ``epochs=20``: the fields of :class:`.FinetuneSettings`, which are the
            options of the command. ``None`` is one's default.

    Returns:
        The file of the classifier.

    Raises:
        FileNotFoundError: If there are no images or weights, or no run to go on with.
        ValueError: If a setting is impossible, or weights or images cannot be used.
        KeyboardInterrupt: As of :func:`coma_mm.pretrain`.
        RunInterrupted: As of :func:`coma_mm.pretrain`.
    """
    if not resume and not is_named(weights):
        raise ValueError(f'weights must name a run, a file or an address, got {weights!r}')
    if not resume and not isinstance(data, (str, PathLike)):
        raise ValueError(f'data must be a folder with a sub-folder for each class, got {data!r}')
    given = settings | dict(weights=None if weights is None else os.fspath(weights))
    runner = run(FinetuneSettings, data, out, given, resume, overwrite, serve, (CLASSIFIER,), plan_finetuning)
    return hand_over(Path(runner.work_dir), runner.message_hub.get_info('best_score'))


def hand_over(out: Path, accuracy: float | None) -> Path:
    """Write ``classifier.pth``; say how good it is, and what to do with it."""
    path = link_checkpoint(out, CLASSIFIER, next(iter(find_best(out)[-1:]), None))
    config, named = quoted_path(out / 'config.py'), quoted_path(path)
    right = '' if accuracy is None else f', {accuracy:.1f} % right'
    print(printable(f'the best checkpoint{right}: {short_path(path)}; report.html beside it has the mistakes'))
    print(printable(f'next: coma-mm test {config} {named}, or coma-mm export {named} classifier.onnx --head'))
    return path


def plan_finetuning(settings: FinetuneSettings) -> Config:
    """Find the images, time some steps, choose batch and length; print the plan, and return the config of the run.

    ``data`` of the settings is a list of one absolute path.
    """
    (folder,) = settings.data
    settings = replace(settings, val=settings.val and os.path.abspath(os.path.expanduser(settings.val)))
    labelled = find_labelled(folder, settings.val, settings.exclude)
    print(' '.join(describe_classes(labelled)), flush=True)
    weights, backbone = open_for_training(str(settings.weights), settings.size, settings.max_pixels)
    paths = [path for path, _ in labelled.learn]
    require_readable(paths, weights.settings)
    if weights.settings['value_range'] is None:
        found = find_value_range(paths, weights.settings['channels'], None, settings.max_pixels or MAX_PIXELS)
        weights.settings['value_range'] = found and (found.low, found.high)
    name = backbone['init_cfg']['checkpoint']
    if settings.init == 'none':
        del backbone['init_cfg']
    images = len(labelled.learn)
    with redirect_stdout(io.StringIO()):
        trying = make_config(replace(settings, batch_size=TRIED, workers=0), weights, backbone, labelled)
        trial = try_out(trying)
    settings, accumulate = choose_length(
        settings, images, trial, time.monotonic() - command_begin(), PASSES.over(images)
    )
    what = 'random weights' if settings.init == 'none' else short_path(name)
    print(
        printable(
            f'{type_name(backbone["type"])} with {what}, {trial.parameters / 1e6:.1f} M parameters, on '
            f'{weights.size[1]} x {weights.size[0]} px.\n{describe_end(settings, images, trial, accumulate)}'
        ),
        flush=True,
    )
    return make_config(settings, weights, backbone, labelled, accumulate)


def require_readable(paths: Sequence[str], settings: dict) -> None:
    """Refuse images of which none of the first can be read with the channels that the weights take."""
    for path in paths[:5]:
        try:
            read_image(path, **settings)
            return
        except UnreadableImageError as error:
            reason = error
    raise ValueError(f'the weights take images of {settings["channels"]} channels: {reason}')


def describe_classes(labelled: Labelled) -> list[str]:
    """Return sentences on labelled images: how many of each class, and what is left out."""
    counts = Counter(label for _, label in labelled.learn)
    (most, largest), *_, (few, smallest) = counts.most_common()
    named = [one_line(labelled.classes[label]) for label in (few, most)]
    each = (
        f'{smallest} ({named[0]}) to {largest} ({named[1]}) of a class' if largest > smallest else f'{largest} of each'
    )
    text = (
        f'{len(labelled.learn):,} images of {len(counts)} classes to learn from, {each}; '
        f'{len(labelled.test):,} to classify.'
    )
    if largest >= 10 * smallest:
        text += ' The classes are far from balanced: the confusion matrix has the average over classes, too.'
    return [printable(sentence) for sentence in [text, *(f'Of {one}.' for one in labelled.left_out)]]


def make_config(
    settings: FinetuneSettings, weights: Weights, backbone: dict, labelled: Labelled, accumulate: int = 1
) -> Config:
    """Return the config of a run, which starts from ``configs/cls/finetune_dyvit-b_folder.py``.

    Args:
        settings: ``steps`` are a guess with ``minutes``; ``batch_size`` are the images computed at once.
        backbone: Its settings for training.
        accumulate: Number of batches in a step.
    """
    images, batch = len(labelled.learn), settings.batch_size or 64
    cfg = begin_config(RECIPE, settings, LR, batch, accumulate)
    set_model(cfg, weights, backbone, len(labelled.classes), images)
    set_images(cfg, settings, weights, labelled.classes, batch)
    if not hasattr(weights.extractor.backbone, 'get_layer_depth'):
        cfg.optim_wrapper.paramwise_cfg = dict(layer_decay_rate=1.0)
    iterations = (settings.steps or 1000) * accumulate
    set_schedule(cfg, iterations)
    cost = len(labelled.test) / 3  # an image is classified in a third of the time that it takes to learn from it
    interval = max(1, math.ceil(iterations / EVALUATIONS), math.ceil(cost / EVALUATION_FRACTION / batch))
    interval = min(interval, iterations)
    cfg.train_cfg.val_interval = interval
    cfg.default_hooks.logger.update(interval=max(1, min(50, iterations // 100)), log_metric_by_epoch=False)
    saving = dict(by_epoch=False, interval=interval, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater')
    cfg.default_hooks.checkpoint.update(saving)
    cfg.custom_hooks += [dict(type='coma_mm.MistakesHook'), dict(type='coma_mm.ReportHook')]
    add_budget(cfg, settings, iterations)
    return cfg


def set_model(cfg: Config, weights: Weights, backbone: dict, classes: int, images: int) -> None:
    """Set the model of a config: a backbone and a linear layer, both trained."""
    with torch.no_grad():
        found = weights.extractor.backbone(torch.zeros(1, weights.settings['channels'], *weights.size))
    last = found if isinstance(found, torch.Tensor) else found[-1]
    if last.dim() not in (2, 4):
        raise ValueError(f'{backbone["type"]} returns neither maps nor vectors: set its out_type in a config')
    if type_name(backbone['type']) == 'DyViT':
        backbone = backbone | dict(drop_path_rate=cfg.model.backbone.drop_path_rate)
        backbone.pop('out_indices', None)
    cfg.model.backbone = ConfigDict(backbone)
    if last.dim() == 2:
        cfg.model.neck = None
    cfg.model.head.update(num_classes=classes, in_channels=last.shape[1])
    turns = weights.extractor.data_preprocessor._channel_conversion
    cfg.model.data_preprocessor.update(**weights.normalisation, to_rgb=turns, num_classes=classes)
    if images < MIN_TO_MIX:
        cfg.model.train_cfg = None


def set_images(cfg: Config, settings: FinetuneSettings, weights: Weights, classes: Sequence[str], batch: int) -> None:
    """Set the labelled images that a config reads, and the batch."""
    crop = dict(type='coma_mm.LoadRandomResizedCrop', scale=weights.size, **weights.reading)
    _, _, flip, *colours, pack = cfg.train_dataloader.dataset.pipeline
    if settings.no_flip:
        flip.prob = 0.0
    colours = colours if weights.settings['channels'] == 3 else []  # which are made for three channels
    for name, pipeline in dict(train=[crop, flip, *colours, pack], val=[take_middle(crop), pack]).items():
        root = settings.val if name == 'val' and settings.val else settings.data[0]
        dataset = dict(type='coma_mm.LabelledFolder', data_root=str(root), val=HELD_OUT, pipeline=pipeline)
        dataset['part'] = choose_part(root, name, settings.val)
        dataset['metainfo'] = dict(classes=list(classes))
        if settings.exclude:
            dataset['exclude'] = list(settings.exclude)
        loader = cfg[f'{name}_dataloader']
        loader.dataset = ConfigDict(dataset)
        set_loader(loader, settings, batch)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.test_dataloader = cfg.val_dataloader
