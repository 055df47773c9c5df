"""Models and what they are wrapped in."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return a model out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model
