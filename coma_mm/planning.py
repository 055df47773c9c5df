"""The plan of a run of pre-training, after a look at its images and some steps: batch, length, what to expect."""

import io
import math
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope
from torch import nn
from torch.utils.data import Dataset

from .datasets import ImageFolder
from .datasets.exclusion import Exclusion, find_masks
from .datasets.finding import name_endings
from .datasets.labelled import Labelled, find_labelled
from .datasets.loading import MAX_PIXELS, UnreadableImageError, image_size
from .datasets.seeding import fixed_seed
from .datasets.value_range import ValueRange, find_value_range
from .engine.hooks.progress import duration, end_after
from .models.mask_units import UNIT_SIDE
from .recipe import (
    EVALUATION_FRACTION,
    METHOD,
    PASSES,
    SIZE,
    USEFUL,
    Encoder,
    choose_encoder,
    choose_patch,
    make_config,
)
from .settings import PretrainSettings
from .starting import add_teacher, start_from
from .utils.clock import command_begin
from .utils.environment import available_memory, fast_dtype, has_fast_bf16
from .utils.paths import short_path
from .utils.text import printable, three_digits

# In the opening line.
METHOD_NAMES = dict(mae='masked autoencoding', coma='CoMA', align='masked autoencoding with aligned halves')
SAMPLED = 64  # images whose size is read
TRIED = 4  # images of the first step that is tried before a run
BRIEF = 3.0  # seconds of a trial, after which one of twice as many images follows: large batches are faster
LARGEST = dict(cuda=1024, cpu=64)  # images of a step
STEP = 64  # images of a step at least, computed in parts where the memory is small
PART = 16  # images that are computed at once at least


@dataclass
class Images:
    """Images in the folders of a run."""

    dataset: ImageFolder  # which found them; says what it left out
    names: list[str]  # of the images to train on, below their folders
    held_out: int  # number of images that are not trained on
    values: ValueRange | None  # that become black and white; none if the images have 8 bits or the user says so
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

    def warn(self, size: int | None) -> None:
        """Print what may be wrong with them, and with crops of the default size if ``size`` is ``None``."""
        values = self.values and self.values.warn()
        small = warn_of_enlarging(self.short_side) if size is None else None
        for warning in (values, small, warn_of_masks(self.names, self.dataset.exclusion)):
            if warning:
                print(f'warning: {warning}', file=sys.stderr, flush=True)


@dataclass
class Trial:
    """Result of some steps of training: seconds an image, images that fit the memory, parameters."""

    seconds: float
    fitting: float
    parameters: int


def plan_run(settings: PretrainSettings) -> Config:
    """Return the config of a new run, after a look at the images and some steps of training; print what to expect.

    ``data`` of the settings is a list of absolute paths.
    """
    if settings.labels is not None:
        settings = replace(settings, labels=os.path.abspath(os.path.expanduser(settings.labels)))
    if settings.init is None:
        encoder = choose_encoder(settings)
    else:
        settings, encoder = start_from(settings)
    if settings.teacher is not None:
        settings = add_teacher(settings, encoder)
    cfg = make_config(replace(settings, batch_size=TRIED, workers=0), encoder)
    print(f'looking at the images in {_list_folders(settings)} ...', flush=True)
    with redirect_stdout(io.StringIO()):
        init_default_scope(cfg.default_scope)
        found = inspect_images(cfg, settings)
        if settings.init is not None:
            MODELS.build(cfg.model).init_weights()  # which says what does not fit
    if found.values is not None:
        settings = replace(settings, value_range=(found.values.low, found.values.high))
        cfg = make_config(replace(settings, batch_size=TRIED, workers=0), encoder)
    images = len(found.names)
    print(f'{images + found.held_out:,} images; trying some steps of training ...', flush=True)
    with redirect_stdout(io.StringIO()):
        trial = try_out(cfg)
    spent = time.monotonic() - command_begin()
    settings, accumulate = choose_length(settings, images, trial, spent, PASSES.over(images))
    # one image has nothing to be compared with
    settings = replace(settings, method=settings.method or ('mae' if settings.batch_size == 1 else METHOD))
    text = describe(settings, encoder, found, trial, accumulate, spent)
    print(' '.join(filter(None, [text, encoder.origin, *found.describe()])), flush=True)
    found.warn(settings.size)
    return make_config(settings, encoder, accumulate)


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


def warn_of_enlarging(short_side: int) -> str | None:
    """Return what is better than crops of the default size, of images so small; ``None`` of others."""
    if not 0 < 1.5 * short_side < SIZE:
        return None
    unit = UNIT_SIDE * choose_patch(short_side)
    size = max(32, short_side // unit * unit)
    return (
        f'the images are about {short_side} px high or wide, and crops of them are enlarged to {SIZE} px: '
        f'--size {size} is made for such, and is faster'
    )


def choose_length(settings: Any, images: int, trial: Trial, spent: float, passes: float) -> tuple[Any, int]:
    """Return settings with batch and steps, and how many batches make a step.

    ``spent`` are the seconds since the command began, ``passes`` those over the images if no length is given.
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


def warn_of_masks(names: Sequence[str], exclusion: Exclusion) -> str | None:
    """Say which images look like masks of others, and what to type."""
    count, patterns = find_masks(names)
    if not patterns:
        return None
    options = ' '.join(map(shlex.quote, [*exclusion.tests, *patterns]))
    return f'{count} images have names as masks of others have; to train without them: --exclude {printable(options)}'


def try_out(cfg: Config) -> Trial:
    """Take steps with few images; the seconds are those of a run that also looks at what it learns."""
    on_gpu = torch.cuda.is_available()
    init_default_scope(cfg.default_scope)
    with fixed_seed(0):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    first, last = (time_step(cfg, count, dataset) for count in (TRIED, 2 * TRIED))
    each = max(1, (last.peak - first.peak) / TRIED)
    if on_gpu:
        torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] if on_gpu else available_memory()
    fitting = math.inf if free is None else 0.7 * (free - first.peak) / each
    while last.whole < BRIEF and 2 * last.images <= min(STEP, fitting):
        last = time_step(cfg, 2 * last.images, dataset)
    return Trial(last.seconds / last.images / (1 - EVALUATION_FRACTION), fitting, last.parameters)


class TimedStep(NamedTuple):
    """A step of training, and the time and memory that it took."""

    images: int
    seconds: float
    whole: float  # seconds with the model, the images and a step before
    peak: int  # bytes
    parameters: int


def time_step(cfg: Config, images: int, dataset: Dataset) -> TimedStep:
    """Time the second step of a model with so many images."""
    on_gpu = torch.cuda.is_available()
    forget_peak(on_gpu)
    begin = time.perf_counter()
    model, step = make_step(cfg, images, dataset=dataset)
    step()
    start = time.perf_counter()
    step()
    if on_gpu:
        torch.cuda.synchronize()
    end = time.perf_counter()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return TimedStep(images, end - start, end - begin, peak_so_far(on_gpu), parameters)


def make_step(
    cfg: Config, batch: int, update: bool = True, dataset: Dataset | None = None
) -> tuple[nn.Module, Callable[[], None]]:
    """Return the model of a config, and a step of its training on the first ``batch`` images, always the same.

    Args:
        update: Whether the step changes weights, as well as computing their gradients.
        dataset: The images; by default the config's, which are found anew.
    """
    init_default_scope(cfg.default_scope)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = MODELS.build({**cfg.model, 'compile': False} if 'compile' in cfg.model else cfg.model).to(device)
    model.train()  # on a line of its own: mmpretrain's models return nothing
    loader = cfg.train_dataloader
    collate = FUNCTIONS.get(loader.get('collate_fn', dict(type='pseudo_collate'))['type'])
    with fixed_seed(0):
        dataset = dataset or DATASETS.build(loader.dataset)
        data = collate([dataset[i % len(dataset)] for i in range(batch)])
    data = model.data_preprocessor(data, True)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper) if update else None

    def step() -> None:
        with nullcontext() if wrapper is None else wrapper.optim_context(model):
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        if wrapper is None:
            loss.backward()
        else:
            wrapper.update_params(loss)

    return model, step


def forget_peak(on_gpu: bool) -> int:
    """Start to watch the memory of the GPU, or of this process, anew; return the bytes that are in use."""
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # there is no /proc on macOS and in some containers
            Path('/proc/self/clear_refs').write_text('5')  # Linux forgets the peak so far
    return peak_so_far(on_gpu)


def peak_so_far(on_gpu: bool) -> int:
    """Return the most bytes in use since :func:`forget_peak`."""
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:  # the most since the process began
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def choose_batch(images: int, fitting: float, on_gpu: bool) -> tuple[int, int]:
    """Return how many images are computed at once, and how many such batches make a step; powers of two.

    A step has as many images as leave eight steps in a pass over them, but at least 64 where there are so many. At once
    as many are computed as fit the memory, and 16 in any case.
    """

    def power(number: float) -> int:
        return 2 ** int(math.log2(max(1, number)))

    step = power(min(images, max(STEP, min(images / 8, LARGEST['cuda' if on_gpu else 'cpu']))))
    batch = power(min(step, max(PART, fitting)))
    return batch, step // batch


def describe(
    settings: PretrainSettings, encoder: Encoder, found: Images, trial: Trial, accumulate: int, spent: float
) -> str:
    """Return the paragraph that opens a run whose length is chosen."""
    images, shown = len(found.names), (settings.steps or 0) * (settings.batch_size or 0) * accumulate
    apart = f', {found.held_out} of them held out' if found.held_out else ''
    text = (
        f'{images + found.held_out} images found{apart}. {encoder.name} and its decoder, '
        f'{trial.parameters / 1e6:.1f} M parameters, by {METHOD_NAMES[settings.method or METHOD]}, on crops of '
        f'{settings.size or SIZE} px in patches of {encoder.backbone["patch_size"]} px, '
        f'{describe_end(settings, images, trial, accumulate)}'
    )
    return text + (advise_length(shown, images, spent + trial.seconds * USEFUL) if shown < USEFUL else '')


def describe_end(settings: Any, images: int, trial: Trial, accumulate: int) -> str:
    """Return how long a run is whose batch and steps are set, on what, and when it ends."""
    if torch.cuda.is_available():
        short = dict(bfloat16='bf16', float16='fp16', float32='fp32')[fast_dtype(torch.cuda.get_device_capability())]
        where = f'{torch.cuda.get_device_name()}, {short}'
    else:
        where = f'the CPU ({torch.get_num_threads()} threads), {"bf16" if has_fast_bf16() else "fp32"}'
    steps, batch = settings.steps, settings.batch_size * accumulate
    seconds = trial.seconds * steps * batch
    end = end_after(seconds)
    text = (
        f'{"about " if settings.minutes else ""}{steps} step{"s" * (steps != 1)} of {batch} images '
        f'({three_digits(steps * batch / images)} passes), on {where}: '
    )
    if settings.minutes is not None:
        minutes = f'{settings.minutes:g} minute{"s" * (settings.minutes != 1)}'
        text += f'{minutes} in all, until {end}; the number of steps follows the speed.'
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
    epochs = max(1, math.ceil(USEFUL / images))
    return (
        f' That shows {shown:,} images in all, too few for useful features, which take about {USEFUL:,}: '
        f'--minutes {math.ceil(seconds / 60)}, or --epochs {epochs}.'
    )
