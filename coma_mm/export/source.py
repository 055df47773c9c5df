"""The backbone of a checkpoint: what the file says of it, checked, and built.

Names in a file are data: nothing is built but backbones and layers of the toolboxes, see :func:`check_types`.
"""

import hashlib
import json
from importlib import import_module
from typing import Any

import torch
from mmengine.registry import MODELS

from ..checkpoints.bounded_building import bounded_building
from ..checkpoints.reading import get_state_dict
from ..checkpoints.settings import read_config_text, read_meta, read_settings
from ..datasets.loading import read_channels
from ..engine.common import find_steps, read_loading, read_normalisation
from ..engine.runner.config_files import read_config
from ..utils.reading import parse_json
from ..utils.text import one_line
from .hub import IMAGE_KEYS

# What may be built of what a checkpoint says, without asking: classes that only compute, by where they are defined.
SCOPES = ('coma_mm', 'mmpretrain', 'mmdet', 'mmseg', 'mmengine')
BACKBONES = (
    *(f'{scope}.models.backbones.' for scope in SCOPES[1:4]),
    'coma_mm.models.dyvit',
    'coma_mm.models.masked_hiera',
    'coma_mm.models.masked_vit',
)
LAYERS = (
    *BACKBONES,
    *(f'{scope}.models.{part}.' for scope in SCOPES[1:4] for part in ('layers', 'utils')),
    'mmcv.cnn.',
    'mmcv.ops.',
    'mmengine.model.',
    'torch.nn.',
)
EXPORT = 'coma-mm export FILE backbone.safetensors --config CONFIG writes one'
TRUST = f'if you trust its config, {EXPORT} to use in its place'


def find_backbone(checkpoint: dict, config: str | None) -> tuple[dict, str, str]:
    """Return the arguments of the backbone, the default scope they are meant in, and a hash of the config."""
    meta = read_meta(checkpoint)
    text = meta.get('cfg')
    text = text if isinstance(text, str) else ''
    if config:
        cfg = read_config(config)
        text, arguments, scope = cfg.pretty_text, (cfg.get('model') or {}).get('backbone'), cfg.get('default_scope')
    else:
        arguments = read_settings(checkpoint)
        scope = meta['scope'] if 'scope' in meta else arguments and read_config_text(text).get('default_scope')
        if scope and scope not in SCOPES:
            raise ValueError(f'the checkpoint says that its backbone is meant in the scope {scope!r}; {TRUST}')
    if not arguments:
        if not config and not text:
            raise ValueError(f'the checkpoint does not say which backbone it has: {EXPORT} that does')
        raise ValueError(f'no backbone can be read from the model of {config or "its config"}')
    config_hash = hashlib.sha256(text.encode()).hexdigest()[:12] if text else meta.get('config_sha256', 'unknown')
    return arguments, scope or 'mmengine', config_hash


def find_normalisation(checkpoint: dict, config: str | None = None) -> dict[str, Any]:
    """Return what is done to images before they go in: :data:`.IMAGE_KEYS`, as far as they are known."""
    meta = read_meta(checkpoint)
    text = read_config(config).pretty_text if config else meta.get('cfg') or ''
    if not text:
        known = {name: meta[name] for name in IMAGE_KEYS[:3] if name in meta} or _values_of_model(meta)
        return {name: _read_checked(name, text) for name, text in known.items()} | _find_loading(meta)
    for name in ('train_dataloader', 'test_dataloader'):
        try:
            cfg = read_config_text(text, (name,))
        except (AttributeError, SyntaxError, TypeError, ValueError):  # made of more than literals
            continue
        if next(find_steps(cfg), None) is not None:
            loading = {name: json.dumps(value) for name, value in read_loading(cfg).items()}
            return _find_loading(loading) | _find_values(text)
    return _find_values(text)


def _values_of_model(meta: dict) -> dict[str, str]:
    """Return ``mean`` and ``std``, as JSON, of released weights, whose file has the settings of the whole model."""
    try:
        settings = parse_json(str(meta['model'])[:100_000])['data_preprocessor']
        return {name: json.dumps(settings[name]) for name in IMAGE_KEYS[:2]}
    except (KeyError, TypeError, ValueError):
        return {}


def _read_checked(name: str, text: object) -> Any:
    """Return what a file says of ``mean``, ``std`` or ``channel_order`` if it can be true."""
    try:
        value = parse_json(str(text)[:10_000])
    except ValueError:
        value = ''
    least = 0 if name == 'std' else -1e9
    numbers = isinstance(value, list) and all(type(x) in (int, float) and least < x < 1e9 for x in value)
    if not (value is None or (value in ('RGB', 'BGR') if name == 'channel_order' else numbers)):
        raise ValueError(f'the checkpoint says that {name} is {one_line(text)[:100]}, which cannot be; {TRUST}')
    return value


def _find_loading(meta: dict[str, str]) -> dict[str, Any]:
    """Return ``channels`` and ``value_range``, which are JSON in a file; nothing if they cannot be true."""
    try:
        channels, value_range = read_channels(*(parse_json(meta.get(name, 'null')) for name in IMAGE_KEYS[3:]))
    except (AttributeError, TypeError, ValueError):
        return {}
    return dict(channels=channels, value_range=value_range and list(value_range))


def _find_values(text: str) -> dict[str, Any]:
    """Return ``mean``, ``std`` and ``channel_order`` of a config's text, if they are known."""
    try:
        cfg = read_config_text(text, ('model', 'data_preprocessor'))
        settings = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    except (AttributeError, SyntaxError, TypeError, ValueError):
        return {}
    return read_normalisation(settings, text) if settings else {}


def check_types(arguments: dict, scope: str) -> None:
    """Refuse arguments that came with a file and would have more built than a backbone: registries build any name."""

    def check(value: object, scope: str, modules: tuple[str, ...], what: str) -> None:
        if isinstance(value, dict):
            if 'type' in value or modules is BACKBONES:
                kind, scope = value.get('type'), value.get('_scope_', scope)
                if not isinstance(kind, str) or not is_registered(kind, scope, modules):
                    raise ValueError(
                        f'the checkpoint says that its backbone is built of {kind!r}, which is no registered {what} of '
                        f'{", ".join(SCOPES)}; {TRUST}'
                    )
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for child in value:
                check(child, scope, LAYERS, 'backbone or layer')

    check(arguments, scope, BACKBONES, 'backbone')


def is_registered(name: str, scope: str, modules: tuple[str, ...]) -> bool:
    """Say whether a registry of OpenMMLab has under a name a network that is defined in one of these modules."""
    scope, _, name = name.rpartition('.') if '.' in name else (scope, '', name)
    if scope not in SCOPES or name == 'TIMMBackbone':  # which fetches weights and names more types
        return False
    try:
        registry = import_module(f'{scope}.registry').MODELS
    except ImportError as error:
        raise ValueError(f'the checkpoint has a backbone of {scope}, which cannot be imported: {error}') from None
    registry.import_from_location()
    found = registry.module_dict.get(name) or MODELS.module_dict.get(name)
    return isinstance(found, type) and issubclass(found, torch.nn.Module) and found.__module__.startswith(modules)


def without_weights(arguments: Any) -> Any:
    """Return arguments without what would load weights, or draw them, at any depth: they are in the file."""
    if isinstance(arguments, dict):
        kept = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained', 'compile')}
        return {name: without_weights(value) for name, value in kept.items()}
    return [without_weights(value) for value in arguments] if isinstance(arguments, (list, tuple)) else arguments


def build_backbone(arguments: dict, checkpoint: dict) -> torch.nn.Module:
    """Build the backbone for the weights of a checkpoint; one that is far larger than these is refused."""
    try:
        with MODELS.switch_scope_and_registry(None) as registry:
            registry.get(arguments['type'])  # which imports a toolbox, and that takes longer than building may
        with bounded_building(get_state_dict(checkpoint), arguments):
            return MODELS.build(arguments)
    except Exception as error:  # what stands in a file can be wrong in any way
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        raise ValueError(f'no {arguments["type"]} can be built with its settings: {reason[:500]}') from error
