"""Mixed precision where it is fast."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.utils import apply_to
from torch import Tensor, nn

from ...registry import OPTIM_WRAPPERS
from ...utils.arguments import require_flag
from ...utils.environment import fast_dtype, has_fast_bf16
from ..common import unwrap


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Trains in autocast: bf16 on GPUs that have it, fp16 with a scaled loss on older ones, fp32 on all else.

    Unlike mmengine's ``AmpOptimWrapper`` it runs on any machine. In bf16 it scales no loss, which would cost a host
    synchronisation per step. Checkpoints have the scale under the same name (``loss_scaler``).

    In bf16 a coordinate near 1000 px is rounded to 4 px. Some of mmcv's GPU kernels lack it. So a detector's config
    names the ``modules`` to autocast, its backbone and neck, which then return fp32; the rest computes in fp32.

    Args:
        cpu: Also use bf16 on CPUs that multiply in it (AMX, AVX512-BF16). On others it is up to eight times slower
            than fp32, and only ``dtype='bfloat16'`` has it.
        modules: Names of the only modules to autocast, such as ``('backbone', 'neck')``; none for the whole model.
        dtype: ``'bfloat16'``, ``'float16'`` or ``'float32'``, whatever the device; chosen by the device if ``None``.
        **kwargs: Those of ``OptimWrapper``.
    """

    def __init__(self, cpu: bool = False, modules: Sequence[str] = (), dtype: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        require_flag(cpu=cpu)
        if isinstance(modules, str):
            raise ValueError(f'modules must be a list of names, got {modules!r}; one is [{modules!r}]')
        self.modules = tuple(modules)
        self.device_type = 'cuda' if torch.cuda.is_available() else 'cpu'
        if dtype is None:
            capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
            dtype = fast_dtype(capability, cpu and has_fast_bf16())
        if dtype not in ('bfloat16', 'float16', 'float32'):
            raise ValueError(f"dtype must be 'bfloat16', 'float16' or 'float32', got {dtype!r}")
        self.dtype = getattr(torch, dtype)
        self.loss_scaler = make_loss_scaler(self.device_type) if dtype == 'float16' else None

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        super().backward(loss if self.loss_scaler is None else self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Update parameters; in fp16 not if a gradient is infinite or NaN, which lowers the scale."""
        if self.loss_scaler is None:
            return super().step(**kwargs)
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        scale = {} if self.loss_scaler is None else dict(loss_scaler=self.loss_scaler.state_dict())
        return super().state_dict() | scale

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` returned, of a run in whatever type."""
        state_dict = dict(state_dict)
        scale = state_dict.pop('loss_scaler', None)
        if scale and self.loss_scaler is not None:
            self.loss_scaler.load_state_dict(scale)
        super().load_state_dict(state_dict)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        enabled = self.dtype != torch.float32
        autocast = torch.autocast(self.device_type, self.dtype if enabled else None, enabled=enabled)
        with super().optim_context(model), ExitStack() as stack:
            if not self.modules:
                stack.enter_context(autocast)
            for name in self.modules:
                module = unwrap(model).get_submodule(name)
                # For this step alone: copies of the model (averages, exports) must not call this one's forward.
                if 'forward' in vars(module):  # put there by another library
                    stack.callback(setattr, module, 'forward', module.forward)
                else:
                    stack.callback(delattr, module, 'forward')
                module.forward = _with_fp32_results(autocast(module.forward))
            yield


def make_loss_scaler(device_type: str) -> 'torch.amp.GradScaler':
    """Return torch's dynamic loss scale; refuse it on a CPU where torch has fp16 for GPUs only."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(device_type)
    if device_type != 'cuda':
        raise ValueError(f'dtype float16 on a CPU needs torch 2.3 or later, and this is {torch.__version__}')
    return torch.cuda.amp.GradScaler()


def _with_fp32_results(forward: Callable) -> Callable:
    """Return ``forward`` with all tensors of its result in fp32."""
    return lambda *args, **kwargs: apply_to(forward(*args, **kwargs), torch.is_tensor, Tensor.float)
