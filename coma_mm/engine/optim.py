"""bf16 where it is fast, from the same config on every machine."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Trains in bf16 autocast on GPUs that have it, and in fp32 on all else.

    mmengine's ``AmpOptimWrapper`` refuses machines without a GPU and GPUs without bf16, so a config that names it runs
    on some machines only. It also scales the loss, which bf16 with its fp32 range does not need and which costs a host
    synchronisation per step.

    Args:
        cpu: Also use bf16 on the CPU, which pays on CPUs with AMX or AVX512-BF16 only.
        **kwargs: Those of ``OptimWrapper``.
    """

    def __init__(self, cpu: bool = False, **kwargs):
        super().__init__(**kwargs)
        if torch.cuda.is_available():
            # Not torch.cuda.is_bf16_supported(): recent versions count GPUs that emulate it, slower than fp32.
            self.device_type, self.enabled = 'cuda', torch.cuda.get_device_capability() >= (8, 0)
        else:
            self.device_type, self.enabled = 'cpu', cpu

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enclose the forward pass."""
        with (
            super().optim_context(model),
            torch.autocast(self.device_type, torch.bfloat16, enabled=self.enabled),
        ):
            yield
