"""Weights of a checkpoint, loaded exactly or not at all; what a weights' file says of its backbone."""

import json
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from .pretrained import check_settings, load_weights
from .reading import get_state_dict, read_checkpoint


def read_checkpoints_safely() -> None:
    """Make mmengine read all checkpoints in this process, of whatever address, without running code."""
    for scheme, loader in list(CheckpointLoader._schemes.items()):
        if loader.__module__ == 'mmengine.runner.checkpoint':  # and not those that a user has registered
            CheckpointLoader.register_scheme(scheme, read_checkpoint, force=True)


def load_exactly(
    model: nn.Module,
    checkpoint: dict,
    source: str = 'the checkpoint',
    partial: bool | Sequence[str] = False,
) -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What log and error call the checkpoint.
        partial: What may be missing in it, be left over or have another shape: weights whose names start with one of
            these, or any, if only something fits.

    Raises:
        ValueError: If they do not fit, with the first differences, or were trained with other settings of the backbone.
    """
    if isinstance(partial, str):
        partial = [partial]

    def is_optional(key: str) -> bool:
        # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
        comes_and_goes = key.startswith('data_preprocessor.') or key.endswith('num_batches_tracked')
        return comes_and_goes or partial is True or partial is not False and key.startswith(tuple(partial))

    weights, own = get_state_dict(checkpoint), model.state_dict()
    if partial:
        others = [key for key in weights if key in own and weights[key].shape != own[key].shape and is_optional(key)]
        weights = {key: value for key, value in weights.items() if key not in others}
        if not weights.keys() & own.keys():
            raise ValueError(f'{source} has no weight that fits the model {type(model).__name__} of this config')
    missing, unexpected = load_weights(model, weights, source, is_optional)
    if partial:
        found = {'not loaded': missing, 'of another shape': others, 'left over': unexpected}
        print_log(
            f'{type(model).__name__}: matched {len(own) - len(missing)} of {len(own)} tensors in {source}; '
            + '; '.join(
                f'{what}: {", ".join(keys[:4]) or "none"}{f", ... ({len(keys)})" if len(keys) > 4 else ""}'
                for what, keys in found.items()
            ),
            'current',
        )
    if hasattr(model, 'backbone'):
        check_settings(model.backbone, checkpoint, source)


def describe_backbone(arguments: dict, backbone: nn.Module) -> str:
    """Return the arguments of a backbone's constructor as JSON, defaults filled in where the backbone tells them.

    Classes, which configs may give in place of their names, are written as the names that registries know them by.

    Raises:
        TypeError: If they are no plain data otherwise.
    """
    plain = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained')}
    return json.dumps(plain | (getattr(backbone, 'settings', None) or {}), default=_registered_name)


def _registered_name(kind: object) -> str:
    if not isinstance(kind, type):
        raise TypeError(f'{kind!r} is no plain data')
    return f'{kind.__module__.partition(".")[0]}.{kind.__name__}'
