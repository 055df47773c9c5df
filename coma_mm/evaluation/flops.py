"""Count operations, attention's too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..masking import num_hidden, unit_grid
from ..models import CoMA, DyViT
from ..models.architectures import ARCHITECTURES

PARAMETERS = 'parameters (M)'


def count_flops(function: Callable, *args: Any) -> int:
    """Return the floating-point operations of a call's matrix products and convolutions (two per multiply-add)."""
    with _visible_attention(), FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


@contextmanager
def _visible_attention() -> Iterator[None]:
    """Compute attention with matrix products: the counter knows those, but not the CPU's fused kernel."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch < 2.3
        with torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False, enable_math=True):
            yield
    else:
        with sdpa_kernel(SDPBackend.MATH):
            yield


def count_macs(function: Callable, *args: Any) -> float:
    """Return the GMACs (1e9 multiply-accumulates, half as many as FLOPs) of a call."""
    return count_flops(function, *args) / 2e9


def count_parameters(*modules: nn.Module) -> float:
    """Return millions of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


def visible_units(shape: tuple[int, int], unit_size: int, ratio: float) -> tuple[Tensor, int]:
    """Return as many units as the adaptive branch sees, for a batch of one, and the number of all."""
    rows, columns = unit_grid(shape, unit_size)
    units = rows * columns
    return torch.arange(units - num_hidden(units, ratio))[None], units


def count_step(model: nn.Module, shape: tuple[int, int], ratio: float = 0.6) -> float:
    """Return the GMACs of one image in a step of pre-training, forward and backward."""
    channels = 3
    samples: Any = [None] * 2  # ``align`` compares two images
    if isinstance(model, CoMA):
        channels = getattr(model.backbone, 'in_channels', 3)
        visible, units = visible_units(shape, model.unit_size, ratio)
        hidden = torch.arange(visible.numel(), units)
        samples = dict(ids_keep=visible.expand(2, -1), ids_mask=hidden.expand(2, -1))
    images = torch.zeros(2, channels, *shape)
    model.train()  # on a line of its own: mmpretrain's models return nothing

    def step() -> None:
        sum(value for key, value in model.loss(images, samples).items() if 'loss' in key).backward()

    return count_macs(step) / 2


def count_forward(build: Callable[[], nn.Module], shape: tuple[int, int], units: Tensor | None = None) -> list[float]:
    """Return millions of parameters and GMACs of an image, and of ``units`` of it, without computing anything."""
    with torch.device('meta'), torch.no_grad():
        model, images = build(), torch.zeros(1, 3, *shape)
        model.eval()  # on a line of its own: mmpretrain's backbones return nothing
        counted = [count_parameters(model), count_macs(model, images)]
        return counted if units is None else [*counted, count_macs(model, images, units.to('meta'))]


def count_variants(shape: tuple[int, int]) -> tuple[list[str], dict[str, list]]:
    """Count the variants, whole images and the units that the adaptive branch sees; return columns' heads, and rows."""
    visible, units = visible_units(shape, 32, 0.6)
    heads = ['dims', 'depths', PARAMETERS, f'GMACs at {shape[0]} x {shape[1]}']
    rows = {}
    for arch, numbers in ARCHITECTURES.items():
        texts = [' '.join(map(str, numbers[key])) for key in ('dims', 'depths')]
        rows[arch] = [*texts, *count_forward(partial(DyViT, arch), shape, visible)]
    return [*heads, f'GMACs with {visible.numel()} of {units} units'], rows
