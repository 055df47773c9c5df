"""bf16 where it is fast, from the same config on every machine."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.utils import apply_to
from torch import Tensor, nn

from ..registry import OPTIM_WRAPPERS
from .wrappers import unwrap


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Trains in bf16 autocast on GPUs that have it, and in fp32 on all else.

    mmengine's ``AmpOptimWrapper`` refuses machines without a GPU and GPUs without bf16, so a config that names it runs
    on some machines only. It also scales the loss, which bf16 with its fp32 range does not need and which costs a host
    synchronisation per step.

    Detectors compute boxes in what their features come in, and bf16 knows a coordinate of 1000 px to 4 px only; some
    of mmcv's GPU kernels lack bf16 altogether. So a detector's config names the ``modules`` to autocast, its
    backbone and neck, which then return fp32, and all the rest computes in fp32.

    Args:
        cpu: Also use bf16 on the CPU, which pays on CPUs with AMX or AVX512-BF16 only.
        modules: Names of the only modules to autocast, such as ``('backbone', 'neck')``; none for the whole model.
        **kwargs: Those of ``OptimWrapper``.
    """

    def __init__(self, cpu: bool = False, modules: Sequence[str] = (), **kwargs):
        super().__init__(**kwargs)
        self.modules = tuple(modules)
        if torch.cuda.is_available():
            # Not torch.cuda.is_bf16_supported(): recent versions count GPUs that emulate it, slower than fp32.
            self.device_type, self.enabled = 'cuda', torch.cuda.get_device_capability() >= (8, 0)
        else:
            self.device_type, self.enabled = 'cpu', cpu

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enclose the forward pass."""
        autocast = torch.autocast(self.device_type, torch.bfloat16, enabled=self.enabled)
        with super().optim_context(model), ExitStack() as stack:
            if not self.modules:
                stack.enter_context(autocast)
            for name in self.modules:
                module = unwrap(model).get_submodule(name)
                module.forward = _with_fp32_results(autocast(module.forward))
                stack.callback(delattr, module, 'forward')  # which leaves the class's own
            yield


def _with_fp32_results(forward: Callable) -> Callable:
    """Return ``forward`` with all tensors of its result in fp32."""
    return lambda *args, **kwargs: apply_to(forward(*args, **kwargs), torch.is_tensor, Tensor.float)
