"""Count operations, attention's too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(function: Callable, *args: Any) -> int:
    """Return the floating-point operations of a call's matrix products and convolutions (two per multiply-add)."""
    with _visible_attention(), FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


@contextmanager
def _visible_attention() -> Iterator[None]:
    """Have attention computed with matrix products: the counter knows those, but not the CPU's fused kernel."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch < 2.3
        with torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False, enable_math=True):
            yield
    else:
        with sdpa_kernel(SDPBackend.MATH):
            yield
