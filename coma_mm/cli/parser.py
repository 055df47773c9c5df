"""The parser of command lines, and options that several commands have. Imports nothing that takes time."""

import argparse
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn

from ..utils.arguments import did_you_mean
from ..utils.reading import MAX_NESTING, MAX_SETTING, is_short_setting
from ..utils.text import one_line
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


class Overrides(argparse.Action):
    """``KEY=VALUE`` as mmengine's own action reads it; what it cannot read is said. Loads torch only where needed."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        from mmengine.config import DictAction

        for text in values:
            key, equals, value = text.partition('=')
            if not key or not equals:
                parser.error(f'{option_string} takes KEY=VALUE, but {text!r} has no {"KEY" if equals else "="}')
            if not is_short_setting(text):
                parser.error(
                    f'{option_string} takes up to {MAX_SETTING} characters, and {MAX_NESTING} brackets within each '
                    f'other, for a setting: write {one_line(key)[:100]} into the config'
                )
            if not _is_readable(value):
                parser.error(
                    f'{option_string} cannot read {text!r}: write lists as "{key}=[1,2]", and each key of a dict by '
                    f'itself, as {key}.KEY=VALUE'
                )
        namespace.option_texts = [*getattr(namespace, 'option_texts', ()), *values]
        DictAction(self.option_strings, self.dest)(parser, namespace, values, option_string)


def _is_readable(value: str) -> bool:
    """Say whether mmengine reads a value as what it looks like: it takes no dicts, and some for plain text."""
    from mmengine.config import DictAction

    if re.search(r'(^|[\s\[(,])dict\(|^\s*\{.*:.*\}\s*$', value):
        return False
    try:
        DictAction._parse_iterable(value)
    except (AssertionError, IndexError, RecursionError, ValueError):
        return False
    opened = {'[': ']', '(': ')'}.get(value.strip()[:1])
    return opened is None or value.strip().endswith(opened) or ',' in value


def add_overrides(parser: ArgumentParser, help: str = 'override settings') -> None:
    """Add ``--cfg-options``."""
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE', help=help)


def add_max_pixels(parser: ArgumentParser) -> None:
    """Add ``--max-pixels``."""
    help = 'largest height times width of an image (default: 10^8)'
    parser.add_argument('--max-pixels', type=types.max_pixels, metavar='N', help=help)


MODEL_AND_IMAGES = 'give [CONFIG] CHECKPOINT IMAGES..., or the folder of a run in place of both: RUN IMAGES...'


def add_model_and_images(parser: ArgumentParser, config: str, images: str) -> None:
    """Add ``[CONFIG] CHECKPOINT IMAGES...``, of which :func:`read_model_and_images` makes three."""
    parser.usage = '%(prog)s [CONFIG] CHECKPOINT IMAGES... [options], or %(prog)s RUN IMAGES... [options]'
    parser.add_argument(
        'names',
        nargs='+',
        type=types.path,
        metavar='CONFIG CHECKPOINT IMAGES',
        help=f'CONFIG: {config}, by default the config beside the checkpoint. CHECKPOINT: a file of weights. IMAGES: '
        f'{images}. RUN: the folder of a run, in place of its config and its newest checkpoint',
    )


def read_model_and_images(parser: ArgumentParser, args: argparse.Namespace) -> None:
    """Set ``config``, which may be ``None``, ``checkpoint`` and ``images``."""
    configs = [name for name in args.names[:2] if name.endswith('.py')]
    what, read = ('config', types.config) if configs else ('checkpoint', types.init_weights)
    # before torch is loaded
    parser.read(read, (configs or args.names)[0], f'argument {what}: {{}}: {MODEL_AND_IMAGES}')
    from ..engine.runner.run_folder import resolve_run

    args.config, args.checkpoint, args.images = resolve_run(args.names, MODEL_AND_IMAGES)
    if not args.images:
        parser.error(f'images are missing: {MODEL_AND_IMAGES}')
    parser.read(types.checkpoint_file, args.checkpoint, 'argument checkpoint: {}')


def make_parser(description: str) -> ArgumentParser:
    """Return a parser of the options that training and testing have."""
    parser = ArgumentParser(description=description)
    parser.add_argument('config', type=types.config, help='a config of mmpretrain, mmdet or mmseg')
    parser.add_argument(
        '--work-dir',
        type=types.output_folder,
        help='where logs and checkpoints go (default: ./work_dirs/<name of the config>)',
    )
    add_overrides(
        parser,
        help='override settings of the config, e.g. train_dataloader.batch_size=64 "model.backbone.windows=[[4]*4,2]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started (default: none)',
    )
    # Given by torch.distributed.launch with older versions of torch; torchrun sets the variable itself.
    parser.add_argument('--local_rank', '--local-rank', type=types.whole(0, 65_535), default=0)
    return parser
