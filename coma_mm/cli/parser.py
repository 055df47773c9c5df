"""The parser of command lines. Imports nothing that takes time."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn

from ..utils.arguments import did_you_mean
from . import types
from .errors import TRACEBACK, UsageError


class ArgumentParser(argparse.ArgumentParser):
    """The standard library's, with the option that all commands have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_argument(
            TRACEBACK,
            action='store_true',
            default=argparse.SUPPRESS,  # it is no setting of what is done
            help='show the traceback of an error, above the line that says what is wrong',
        )

    def read(self, kind: Callable[[str], Any], text: str, message: str = '{}') -> Any:
        """Read a text by a type of arguments, after the others; its reason to refuse it goes into the message."""
        try:
            return kind(text)
        except argparse.ArgumentTypeError as error:
            self.error(message.format(error))

    def error(self, message: str) -> NoReturn:
        """Raise what ends a command with its usage and the reason."""
        unknown = message.partition('unrecognized arguments: ')[2].partition(' ')[0].partition('=')[0]
        near = did_you_mean(unknown, self._option_string_actions) if unknown.startswith('--') else ''
        raise UsageError(f'{self.format_usage()}error: {message}{near}')


def add_settings(parser: ArgumentParser, kind: type) -> None:
    """Add an option for each field of a class of settings that :func:`coma_mm.settings.setting` describes.

    An option that is not given is ``None``, whatever the default of its field.
    """
    groups: dict[str, Any] = {}
    for field in fields(kind):
        if not field.metadata:
            continue
        option = {'default': None, **field.metadata}
        place: Any = parser
        if group := option.pop('group', None):
            place = groups[group] = groups.get(group) or parser.add_mutually_exclusive_group()
        if 'range' in option:
            option['type'] = types.in_range(option.pop('range'))
        elif 'type' in option:
            option['type'] = getattr(types, option['type'])
        place.add_argument(f'--{field.name.replace("_", "-")}', **option)
