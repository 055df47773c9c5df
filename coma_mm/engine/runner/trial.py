"""Single training steps, to see what they take: seconds, memory, operations."""

import resource
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope
from torch import nn
from torch.utils.data import Dataset

from ...datasets.seeding import fixed_seed


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
