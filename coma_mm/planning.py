"""The plan of a run of pre-training, after a look at its images and some steps: batch, length, what to expect."""

import io
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from .datasets import ImageFolder
from .datasets.finding import name_endings
from .datasets.labelled import Labelled, find_labelled
from .datasets.loading import MAX_PIXELS, UnreadableImageError, image_size
from .datasets.value_range import ValueRange, find_value_range
from .engine.hooks.progress import duration, end_after
from .given_weights import add_teacher, start_from
from .models.mask_units import UNIT_SIDE
from .recipe import (
    DEFAULT_METHOD,
    DEFAULT_SIZE,
    PASSES,
    USEFUL_IMAGES,
    Encoder,
    choose_encoder,
    choose_patch,
    make_config,
)
from .settings import SHORT_IMAGES, TEACHER, WEIGHTS, PretrainSettings
from .trial import MIN_STEP, TRIED, Trial, try_out
from .utils.clock import command_begin
from .utils.environment import fast_dtype, has_fast_bf16
from .utils.paths import short_path
from .utils.text import counted, printable, three_digits

METHOD_TITLES = dict(mae='masked autoencoding', coma='CoMA', align='masked autoencoding with aligned halves')
SAMPLED = 64  # images whose size is read
MAX_STEP = dict(cuda=1024, cpu=64)  # images of a step
SMALL = 'DyViT-pico'  # of the weights that come along
MIN_BATCH = 16  # images that are computed at once at least


@dataclass
class Images:
    """Images in the folders of a run."""

    dataset: ImageFolder  # that found them, and knows what it left out
    names: list[str]  # of the images to train on, below their folders
    held_out: int  # number of images that are not trained on
    values: ValueRange | None  # that become black and white; None for 8 bits, or where the user names them
    labelled: Labelled | None
    short_side: int  # the median of some of the images, in pixels

    def describe(self) -> list[str]:
        """Return sentences on values of images, on what is left out in the folders, and on labelled images."""
        left_out, excluded = name_endings(self.dataset.left_out), self.dataset.exclusion.describe()
        sentences = [self.values.describe()] if self.values else []
        sentences += [f'{left_out[0].upper()}{left_out[1:]}.'] if left_out else []
        sentences += [f'{printable(excluded)}.'] if excluded else []
        if self.labelled is not None:
            count, classes = len(self.labelled.learn) + len(self.labelled.test), len(self.labelled.classes)
            sentences.append(
                f'During training, a linear probe is measured on {count:,} labelled images of {classes} classes.'
            )
            sentences += [printable(f'Labelled {sentence}.') for sentence in self.labelled.left_out]
        return sentences

    def warn(self) -> None:
        """Print what may be wrong with them."""
        for warning in (self.values and self.values.warn(), self.dataset.exclusion.advise(self.names)):
            if warning:
                print(printable(f'warning: {warning}'), file=sys.stderr, flush=True)


@dataclass
class Plan:
    """Settings of a run with batch and length, and what they were chosen by."""

    settings: PretrainSettings
    encoder: Encoder
    accumulate: int  # batches in a step
    trial: Trial
    spent: float  # seconds since the command began

    @property
    def shown(self) -> int:
        """Images that the run shows."""
        return (self.settings.steps or 0) * (self.settings.batch_size or 0) * self.accumulate


def plan_pretraining(settings: PretrainSettings) -> Config:
    """Find the images, time some steps, choose batch and length; print the plan, and return the config of the run.

    ``data`` of the settings is a list of absolute paths.
    """
    if settings.labels is not None:
        settings = replace(settings, labels=os.path.abspath(os.path.expanduser(settings.labels)))
    is_open = not (settings.init or settings.teacher or settings.method) and settings.channels in (None, 1, 3)
    given = settings
    settings, encoder = choose_model(given)
    cfg = make_config(settings, encoder)
    print(f'looking at the images in {_list_folders(settings)} ...', flush=True)
    with redirect_stdout(io.StringIO()):
        init_default_scope(cfg.default_scope)
        found = inspect_images(cfg, settings)
        if settings.init is not None:
            MODELS.build(cfg.model).init_weights()  # which says what does not fit
    if settings.size is None:
        size = fit_size(found.short_side)
        if size != DEFAULT_SIZE:  # for which the encoder was chosen
            settings, encoder = choose_model(replace(given, size=size))
        settings = replace(settings, size=size)
    if found.values is not None:
        settings = replace(settings, value_range=(found.values.low, found.values.high))
    images = len(found.names)
    print(f'{counted(images + found.held_out, "image")}; trying some steps of training ...', flush=True)
    plan = choose_default(settings, encoder, images) if is_open else choose_steps(settings, encoder, images)
    print('\n'.join(filter(None, [describe_plan(plan, found), plan.encoder.origin, *found.describe()])), flush=True)
    found.warn()
    return make_config(plan.settings, plan.encoder, plan.accumulate)


def choose_model(settings: PretrainSettings) -> tuple[PretrainSettings, Encoder]:
    """Return the encoder of a run, with the teacher that is given, and settings that go with it."""
    if settings.init is None:
        encoder = choose_encoder(settings)
    else:
        settings, encoder = start_from(settings)
    return (add_teacher(settings, encoder) if settings.teacher else settings), encoder


def choose_default(settings: PretrainSettings, encoder: Encoder, images: int) -> Plan:
    """Return the plan of a run for which no method is given.

    Short runs start from the weights that come along, or have them as their teacher if these weights do not fit the
    arch or the channels that are given. Longer ones align.
    """
    plan = choose_steps(settings, encoder, images)
    if plan.shown > SHORT_IMAGES:
        return plan
    if settings.arch is None and settings.channels != 1:
        settings, small = start_from(replace(settings, init=WEIGHTS))
        settings = add_teacher(replace(settings, teacher=WEIGHTS), small)
        small.origin += (
            f'\nUp to {SHORT_IMAGES:,} images that gains more than a {encoder.name} of random weights (--arch tiny).'
        )
        return choose_steps(settings, small, images)
    settings = add_teacher(replace(settings, teacher=TEACHER), encoder)
    encoder.origin += f'\nTo train without it: --method {DEFAULT_METHOD}.'
    return choose_steps(settings, encoder, images)


def choose_steps(settings: PretrainSettings, encoder: Encoder, images: int) -> Plan:
    """Time some steps of training, and choose batch and length by them."""
    with redirect_stdout(io.StringIO()):
        trial = try_out(make_config(replace(settings, batch_size=TRIED, workers=0), encoder))
    spent = time.monotonic() - command_begin()
    settings, accumulate = choose_length(settings, images, trial, spent, PASSES.over(images))
    # one image has nothing to be compared with
    settings = replace(settings, method=settings.method or ('mae' if settings.batch_size == 1 else DEFAULT_METHOD))
    return Plan(settings, encoder, accumulate, trial, spent)


def _list_folders(settings: PretrainSettings) -> str:
    return printable(', '.join(map(short_path, map(Path, settings.data))))


def inspect_images(cfg: Config, settings: PretrainSettings) -> Images:
    """Find the images of a config; each pattern of ``exclude`` has to match some."""
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'lazy_init': True})
    every = dataset.find_images()
    paths = dataset.choose(every)
    names = dataset.name_images(paths)
    if idle := dataset.exclusion.idle:
        raise ValueError(
            f'no image matches {", ".join(map(repr, idle))} of --exclude; patterns are of paths below '
            f'{_list_folders(settings)}, such as {names[0]!r}'
        )
    values = find_value_range(paths, settings.channels or 3, settings.value_range, settings.max_pixels or MAX_PIXELS)
    labelled = None if settings.labels is None else find_labelled(settings.labels)  # before anything takes time
    return Images(dataset, names, len(every) - len(paths), values, labelled, find_short_side(paths))


def find_short_side(paths: Sequence[str]) -> int:
    """Return the median short side of some of the images in pixels, by their headers; 0 if none can be read."""
    sides = []
    for path in paths[:: math.ceil(len(paths) / SAMPLED)]:
        with suppress(UnreadableImageError, ImportError):
            sides.append(min(image_size(path)))
    return sorted(sides)[len(sides) // 2] if sides else 0


def fit_size(short_side: int) -> int:
    """Return the side of crops in pixels: the default, or about that of the images where they are smaller."""
    if not 0 < 1.5 * short_side < DEFAULT_SIZE:
        return DEFAULT_SIZE
    unit = UNIT_SIDE * choose_patch(short_side)
    return max(32, short_side // unit * unit)


def choose_length(settings: Any, images: int, trial: Trial, spent: float, passes: float) -> tuple[Any, int]:
    """Return settings with batch and steps, and how many batches make a step.

    Args:
        spent: Seconds since the command began.
        passes: Passes over the images if no length is given.
    """
    batch, accumulate = settings.batch_size, 1
    if batch is None:
        batch, accumulate = choose_batch(images, trial.fitting, torch.cuda.is_available())
    per_step, steps = batch * accumulate, settings.steps
    if settings.minutes is not None:
        left = 60 * settings.minutes - 2 * spent  # starting to train takes about as long again
        steps = max(1, int(left / (trial.seconds * per_step)))
    elif steps is None:
        steps = math.ceil((settings.epochs or passes) * images / per_step)
    return replace(settings, batch_size=batch, steps=steps), accumulate


def choose_batch(images: int, fitting: float, on_gpu: bool) -> tuple[int, int]:
    """Return how many images are computed at once, and how many such batches make a step; powers of two.

    A pass over the images has eight steps or more, but a step has 64 images where there are so many. A batch has as
    many as fit the memory, and 16 in any case.
    """

    def power(number: float) -> int:
        return 2 ** int(math.log2(max(1, number)))

    step = power(min(images, max(MIN_STEP, min(images / 8, MAX_STEP['cuda' if on_gpu else 'cpu']))))
    batch = power(min(step, max(MIN_BATCH, fitting)))
    return batch, step // batch


def describe_plan(plan: Plan, found: Images) -> str:
    """Return the lines that open a run."""
    settings, encoder, trial, images = plan.settings, plan.encoder, plan.trial, len(found.names)
    size = settings.size
    apart = f', {found.held_out:,} of them held out' if found.held_out else ''
    text = (
        f'{counted(images + found.held_out, "image")} found{apart}.\n{encoder.name} and its decoder, '
        f'{trial.parameters / 1e6:.1f} M parameters, by {METHOD_TITLES[settings.method or DEFAULT_METHOD]}, on crops '
        f'of {size} px in patches of {encoder.backbone["patch_size"]} px.\n'
        f'{describe_end(settings, images, trial, plan.accumulate)}'
    )
    if settings.init is not None:
        return text
    if plan.shown < USEFUL_IMAGES:
        text += advise_length(plan.shown, images, plan.spent + trial.seconds * USEFUL_IMAGES)
    is_small = encoder.name == SMALL
    if settings.channels in (None, 3) and (is_small or plan.shown < USEFUL_IMAGES):
        text += f'\nA {SMALL} that starts from weights gains more in short runs: --init {WEIGHTS} --size {size}'
        text += f', without --arch {settings.arch}.' if settings.arch and not is_small else '.'
    return text


def describe_end(settings: Any, images: int, trial: Trial, accumulate: int) -> str:
    """Return how long a run is whose batch and steps are set, on what, and when it ends."""
    if torch.cuda.is_available():
        short = dict(bfloat16='bf16', float16='fp16', float32='fp32')[fast_dtype(torch.cuda.get_device_capability())]
        where = f'{torch.cuda.get_device_name()}, {short}'
    else:
        where = f'the CPU ({counted(torch.get_num_threads(), "thread")}), {"bf16" if has_fast_bf16() else "fp32"}'
    steps, batch = settings.steps, settings.batch_size * accumulate
    seconds = trial.seconds * steps * batch
    end, passes = end_after(seconds), steps * batch / images
    text = (
        f'{"About " if settings.minutes else ""}{counted(steps, "step")} of {counted(batch, "image")} '
        f'({three_digits(passes)} pass{"es" * (passes != 1)}), on {where}: '
    )
    if settings.minutes is not None:
        text += f'{counted(settings.minutes, "minute")} in all, until {end}. The number of steps follows the speed.'
    else:
        text += f'about {duration(seconds)}, until {end}.'
        if not torch.cuda.is_available() and seconds > 1800:
            text += ' Faster: a GPU, a smaller model or --size, or --minutes for a shorter run.'
    if accumulate > 1:
        parts = f'{accumulate} batches of {settings.batch_size} images'
        text += f' Memory is short: each step computes {parts}, one after another.'
    return text


def advise_length(shown: int, images: int, seconds: float) -> str:
    """Say that a run shows too few images, and what to type for one that shows enough in so many seconds."""
    epochs = max(1, math.ceil(USEFUL_IMAGES / images))
    return (
        f'\nThat shows {shown:,} images in all, too few for useful features, which take about {USEFUL_IMAGES:,}: '
        f'--minutes {math.ceil(seconds / 60)}, or --epochs {epochs}.'
    )
