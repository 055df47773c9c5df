"""Hand-over of weights: from any checkpoint that holds a backbone to the backbone, completely or not at all.

Nothing here runs code from a file: torch's ``weights_only`` reading, extended by mmengine's log histories, which every
checkpoint of its runner contains.
"""

import codecs
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.fileio import get_local_path
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import update_init_info
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS

WRAPPERS = ('state_dict', 'model', 'module', 'model_state_dict')  # under which weights are stored in the wild


def _statistic(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, by which pickled log histories name their statistics (mean, max, ...)."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    return getattr(HistoryBuffer, name)


_ARRAYS = np.array(0.0).__reduce__()[0], np.ndarray, np.dtype, np.float64(0).__reduce__()[0]
_DTYPES = {type(np.dtype(code)) for code in 'efdbhilqBHILQ?U'} - {np.dtype}
# What may be named by a checkpoint beyond torch's own list: full name -> object.
_DATA = {f'{x.__module__}.{x.__qualname__}': x for x in (Counter, HistoryBuffer, codecs.encode, *_ARRAYS, *_DTYPES)}
_DATA |= {name.replace('_core', 'core'): x for name, x in _DATA.items()}  # numpy 1 named them so, numpy 2 reads both
_DATA |= {name.replace('.core', '._core'): x for name, x in _DATA.items()}
_DATA |= {'builtins.getattr': _statistic, '__builtin__.getattr': _statistic}


def _unpickle(path: str, map_location: torch.device | str | Callable) -> object:
    """Read a file of ``torch.save`` that holds data only."""
    if hasattr(torch.serialization, 'safe_globals'):
        with torch.serialization.safe_globals([(x, name) for name, x in _DATA.items()]):
            return torch.load(path, map_location, weights_only=True)

    # Older torch cannot extend its list: the same list in an unpickler of ours.
    from torch._weights_only_unpickler import _get_allowed_globals

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            known = _get_allowed_globals() | _DATA
            if f'{module}.{name}' not in known:
                raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')
            return known[f'{module}.{name}']

    restricted = SimpleNamespace(
        __name__='restricted', Unpickler=Unpickler, load=lambda f, **kw: Unpickler(f, **kw).load()
    )
    return torch.load(path, map_location, pickle_module=restricted)


def read_checkpoint(path: str | Path, map_location: torch.device | str | Callable = 'cpu') -> dict:
    """Read a ``.pth`` or ``.safetensors`` file; never runs code from it.

    Args:
        path: A file, or an address that mmengine's file backends know (https, s3, ...).
        map_location: As in ``torch.load``.

    Returns:
        What the file holds; for safetensors ``dict(state_dict=..., meta=...)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds more than data.
    """
    if '://' not in str(path) and not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    with get_local_path(path) as local:
        try:
            if str(path).endswith('.safetensors'):
                from safetensors import safe_open

                with safe_open(local, framework='pt') as file:
                    weights = {key: file.get_tensor(key) for key in file.keys()}
                    return dict(state_dict=weights, meta=file.metadata() or {})
            checkpoint = _unpickle(str(local), map_location)
        except ImportError:
            raise
        except Exception as error:
            if isinstance(error, pickle.UnpicklingError) and 'GLOBAL' in str(error):
                raise ValueError(
                    f'{path} holds more than weights and plain data, and reading it could run code, so it is refused. '
                    'If you trust it, store its weights alone: torch.save(torch.load(PATH, weights_only=False)'
                    f'["state_dict"], NEW). What was found: {_first_line(error)}'
                ) from None
            raise ValueError(
                f'{path} is damaged or no checkpoint (incomplete download?): {_first_line(error)}'
            ) from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not a dict of weights')
    return checkpoint


def get_state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, out of all wrappers, without ``module.`` of data-parallel models."""
    while name := next((key for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None):
        checkpoint = checkpoint[name]
    return {key.removeprefix('module.'): value for key, value in checkpoint.items() if isinstance(value, Tensor)}


def load_weights(
    module: nn.Module,
    state_dict: dict[str, Tensor],
    source: str,
    is_optional: Callable[[str], bool] = lambda key: False,
) -> tuple[list[str], list[str]]:
    """Load all weights of a state dict into all weights of a module, or raise.

    Args:
        module: Without wrappers.
        state_dict: Names as in ``module.state_dict()``.
        source: What the error calls the state dict.
        is_optional: Whether a weight may be missing, or may be there without the module having it.

    Returns:
        The optional weights that were missing, and those that were unexpected.

    Raises:
        ValueError: If they do not fit, with the first differences.
    """
    shapes, missing, unexpected = [], [], []
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError:  # torch reports other shapes this way, at length
        own = module.state_dict()
        shapes = [
            f'{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in state_dict and state_dict[key].shape != own[key].shape
        ]
        if not shapes:
            raise
    differences = [
        f'{len(found)} {what}: {", ".join(found[:2])}{", ..." if len(found) > 2 else ""}'
        for what, found in (
            ('of other shapes', shapes),
            ('missing in the checkpoint', [key for key in missing if not is_optional(key)]),
            ('unknown to the model', [key for key in unexpected if not is_optional(key)]),
        )
        if found
    ]
    if differences:
        raise ValueError(
            f'{source} does not fit the model {type(module).__name__} of this config; is it of another architecture? '
            f'Weights {"; ".join(differences)}'
        )
    return missing, unexpected


def load_backbone(backbone: nn.Module, checkpoint: dict, source: str, prefix: str | None = None) -> None:
    """Find a backbone's weights in a checkpoint and load all of them.

    Weights may be named as the backbone names them, or with anything before that (``backbone.``, ``module.``,
    ``model.backbone.`` ...); what belongs to heads and decoders is left aside. Norms of stages that only one side
    outputs, and stages after the last output, are no error (the backbone's ``is_optional_weight``).

    Args:
        backbone: Takes the weights.
        checkpoint: A state dict, bare or wrapped, or a checkpoint of mmengine's runner.
        source: What log and error call the checkpoint.
        prefix: What stands before the backbone's names, where the choice should not be left to the function.

    Raises:
        ValueError: If the checkpoint holds no such backbone or not all of it.
    """
    state_dict = get_state_dict(checkpoint)
    if not state_dict:
        raise ValueError(f'{source} holds no weights; its keys are {", ".join(map(str, list(checkpoint)[:5]))}')
    if prefix is None:
        prefix = _find_prefix(state_dict, backbone.state_dict())
    found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if not found:
        raise ValueError(f'{source} has no weights that start with {prefix!r}; its first is {next(iter(state_dict))}')
    is_optional = getattr(backbone, 'is_optional_weight', lambda key: False)
    missing, unexpected = load_weights(backbone, found, source, is_optional)
    total = len(backbone.state_dict())
    aside = len(state_dict) - len(found)
    print_log(
        f'{type(backbone).__name__}: matched {total - len(missing)} of {total} tensors'
        f'{f" after {prefix!r}" if prefix else ""} in {source}; '
        f'missing, as expected: {", ".join(missing) or "none"}; unexpected, not needed: '
        f'{", ".join(unexpected[:4]) or "none"}{", ..." if len(unexpected) > 4 else ""}; not of the backbone: {aside}',
        'current',
    )


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialises a backbone from any checkpoint that holds one, for ``init_cfg`` (ours).

    In place of mmengine's class of this name, which loads what happens to match and warns about the rest.

    Args:
        checkpoint: A checkpoint of mmengine's runner (of pre-training, classification, detection or segmentation), a
            file of ``tools/export.py``, or a state dict, ``.pth`` or ``.safetensors``.
        prefix: See :func:`load_backbone`.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None):
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        """Load.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it cannot be read safely, or does not fit.
        """
        try:
            checkpoint = read_checkpoint(self.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: name another with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train from '
                'random weights with model.backbone.init_cfg=None'
            ) from None
        load_backbone(module, checkpoint, str(self.checkpoint), self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'coma_mm.Pretrained: {self.checkpoint}')


def _find_prefix(state_dict: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return what stands before a backbone's names, in case of doubt the shortest, such as ``backbone.``."""
    first = next(iter(own))
    candidates = {key.removesuffix(first) for key in state_dict if key == first or key.endswith(f'.{first}')}
    # Evaluation weights of CoMA lie under "evaluation.module."; they are asked for by name only.
    candidates = {prefix for prefix in candidates if not prefix.startswith('evaluation.')} or candidates
    matches = {prefix: sum(prefix + name in state_dict for name in own) for prefix in candidates | {''}}
    return min(matches, key=lambda prefix: (-matches[prefix], len(prefix)))


def _first_line(error: Exception) -> str:
    """Return the line of an error that says what was found: torch's are a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if 'GLOBAL' in line or 'Unsupported' in line]
    return (telling or lines or [type(error).__name__])[0][:300]
