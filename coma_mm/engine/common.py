"""What several files here need: paths as one would type them, models without their wrappers, how images come in."""

import os

from mmengine.model import is_model_wrapper
from torch import nn


def short_path(path: str | os.PathLike) -> str:
    """Return a path relative to the current directory, or absolute where that is shorter; an address as it is."""
    if '://' in os.fspath(path):
        return os.fspath(path)
    return min(os.path.relpath(path), os.path.abspath(path), key=len)


def unwrap(model: nn.Module) -> nn.Module:
    """Return a model out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def kind_name(kind: object) -> str:
    """Return the name of a class that a config gives by its name, its dotted name or itself; empty for none."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def read_normalisation(preprocessor: dict, pipelines: str) -> dict:
    """Return what is done to images before a backbone sees them.

    Args:
        preprocessor: Settings of a data preprocessor of any toolbox.
        pipelines: The text of the pipeline that the backbone was trained with.

    Returns:
        ``mean`` and ``std`` of pixels of 0 to 255 (None: as they are), and the ``channel_order`` that they, and the
        backbone, take three channels in: ``'RGB'``, or ``'BGR'`` where the pipeline reads that and nothing turns it.
    """
    reads_bgr = "LoadImageFromFile'" in pipelines  # by name, or the repr of the class
    turns = any(preprocessor.get(name) for name in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'))
    order = 'BGR' if reads_bgr != turns else 'RGB'
    return dict(mean=preprocessor.get('mean'), std=preprocessor.get('std'), channel_order=order)
