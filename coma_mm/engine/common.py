"""What several files here need: paths as one would type them, models without what they are wrapped in."""

import os

from mmengine.model import is_model_wrapper
from torch import nn


def short_path(path: str | os.PathLike) -> str:
    """Return a path relative to the current directory, or absolute where that is shorter."""
    return min(os.path.relpath(path), os.path.abspath(path), key=len)


def unwrap(model: nn.Module) -> nn.Module:
    """Return a model out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model
