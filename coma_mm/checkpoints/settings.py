"""Settings that a checkpoint's file says: its metadata and the text of its config, which is read and never run."""

import ast
import json
from collections.abc import Collection
from typing import Any

from ..utils.configs import type_name
from ..utils.reading import parse_json

# Arguments of backbones that say nothing about what they compute.
NO_SETTINGS = ('type', 'init_cfg', 'pretrained', 'compile')
# Arguments of a DyViT that decide, beside its weights, which function it is.
SHAPING = tuple('arch img_size patch_size in_channels attention windows kv_conv mlp_ratio qkv_bias layer_scale'.split())
FROM = 'from:'  # before the name of a file, as the arch of a DyViT whose arguments it says
MAX_TEXT = 2_000_000  # characters of settings, or of a config, in a file


def read_settings(checkpoint: dict) -> dict | None:
    """Return the arguments of the backbone's constructor that a checkpoint was trained with; None if it does not say.

    Files of ``tools/export.py`` and checkpoints of our tools' runs have them as JSON, in ``meta['backbone']``. Those of
    other runs have the text of their config: it is read, not run, as far as it consists of literals.
    """
    meta = read_meta(checkpoint)
    try:
        if 'backbone' in meta:
            settings = parse_json(_short(meta['backbone']))
        else:
            settings = (read_config_text(meta.get('cfg') or '').get('model') or {}).get('backbone')
        if FROM in json.dumps(settings):  # what a file says names no other one
            return None
    except (AttributeError, SyntaxError, TypeError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def read_dyvit(checkpoint: dict) -> dict | None:
    """Return :data:`SHAPING` arguments of the :class:`.DyViT` that a checkpoint holds; None if it does not say them."""
    settings = read_settings(checkpoint) or {}
    if type_name(settings.get('type')) != 'DyViT':
        return None
    return {name: settings[name] for name in SHAPING if name in settings}


def read_meta(checkpoint: dict) -> dict:
    """Return what a checkpoint says of itself; nothing if that is no dict."""
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, dict) else {}


def _short(text: str) -> str:
    """Return a text, or raise if it is too long to be parsed: what is made of it takes far more memory."""
    if len(text) > MAX_TEXT:
        raise ValueError(f'a text of {len(text)} characters, where at most {MAX_TEXT} are read')
    return text


def read_config_text(text: str, names: Collection[str] = ('model', 'default_scope')) -> dict:
    """Return some top-level settings of a config's text; unlike mmengine's reader it runs nothing.

    Raises:
        ValueError: If they are made of more than literals.
    """
    try:
        return {
            target.id: _read_literal(statement.value)
            for statement in ast.parse(_short(text)).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets[:1]
            if isinstance(target, ast.Name) and target.id in names
        }
    except (RecursionError, MemoryError):  # which Python's parser says for the same
        raise ValueError('it is nested too deeply') from None
    except TypeError:  # such as dict(5)
        raise ValueError('it is made of more than literals') from None


def _read_literal(node: ast.expr | None) -> Any:
    """Return the value of a literal or a call of ``dict``."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        value: dict = {}
        for part in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg is None)]:
            value.update(_read_literal(part))
        return value | {keyword.arg: _read_literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {_read_literal(key): _read_literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_read_literal(element) for element in node.elts]
    if node is None:
        raise ValueError('a dict is unpacked in another one')
    return ast.literal_eval(node)


def describe_backbone(arguments: dict, backbone: object) -> str:
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
