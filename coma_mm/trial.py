"""A trial of some steps before a run: how long they take, and how many images fit the memory."""

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope
from torch import nn
from torch.utils.data import Dataset

from .datasets.seeding import fixed_seed
from .recipe import EVALUATION_FRACTION
from .utils.environment import available_memory

TRIED = 4  # images of the first step
BRIEF = 3.0  # seconds of a trial, after which one of twice as many images follows: large batches are faster
MIN_STEP = 64  # images of a step at least, computed in parts where the memory is small


@dataclass
class Trial:
    """Seconds an image, images that fit the memory, and parameters, as some steps of training have shown."""

    seconds: float
    fitting: float
    parameters: int


def try_out(cfg: Config) -> Trial:
    """Time steps with few images. The seconds of an image include its part of a run's evaluations."""
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
    while last.whole < BRIEF and 2 * last.images <= min(MIN_STEP, fitting):
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
    model, step = make_step(cfg, images, dataset)
    step()
    start = time.perf_counter()
    step()
    if on_gpu:
        torch.cuda.synchronize()
    end = time.perf_counter()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return TimedStep(images, end - start, end - begin, peak_so_far(on_gpu), parameters)


def make_step(cfg: Config, batch: int, dataset: Dataset | None = None) -> tuple[nn.Module, Callable[[], None]]:
    """Return the model of a config, and a step of its training on the first ``batch`` images, always the same.

    Without a data set the images of the config are found anew.
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
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)

    def step() -> None:
        with wrapper.optim_context(model):
            loss, _ = model.parse_losses(model(**data, mode='loss'))
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
