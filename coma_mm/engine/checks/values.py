"""Settings that people change, checked before anything is built.

Settings that neither the table nor the agreements name pass: they are for the classes to check that take them.
"""

from typing import Any

from mmengine.config import Config

from ...utils.arguments import did_you_mean
from ...utils.configs import walk, walk_dicts
from ..common import type_name
from .agreements import AGREEMENTS, OF_CONFIGS
from .table import TABLE


def check_values(cfg: Config) -> None:
    """Refuse values of the wrong kind or out of range, and values that do not go together."""
    settings = dict(walk(dict(cfg.items())))
    for place, value in settings.items():
        _check(place, value, settings.get(place.rpartition('.')[0]))
    for place, node in walk_dicts(dict(cfg.items())):
        for agreement in AGREEMENTS:
            for message in agreement(place, node):
                raise ValueError(message)
    for check in OF_CONFIGS:
        for message in check(cfg):
            raise ValueError(message)


def _check(place: str, value: Any, owner: Any) -> None:
    """Raise if a row of the table has a setting, and not this value."""
    name = place.rpartition('.')[2]
    for row in (*TABLE.get(name, ()), *TABLE['*']):
        if not row.place.fullmatch(place) or row.kind.accepts(value):
            continue
        if row.of and type_name(owner.get('type')) not in row.of:
            continue
        shown = repr(value) if len(repr(value)) < 80 else f'{repr(value)[:75]} ...'
        hint = did_you_mean(value, row.kind.names) if isinstance(value, str) else ''
        hint += f'; set --cfg-options {place}={row.example}' if row.example else ''
        raise ValueError(f'{place}={shown}, but it must be {row.kind.wanted}{hint}')
