"""The parser of command lines. Imports nothing that takes time."""

import argparse
from typing import Any, NoReturn

from .errors import TRACEBACK, UsageError


class ArgumentParser(argparse.ArgumentParser):
    """The standard library's, with the option that all commands have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_argument(
            TRACEBACK,
            action='store_true',
            default=argparse.SUPPRESS,  # it is no setting of what is done
            help='show where an error comes from, above the line that says what it is',
        )

    def error(self, message: str) -> NoReturn:
        """Raise what ends a command with its usage and the reason.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f'{self.format_usage()}error: {message}')
