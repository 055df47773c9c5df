"""Config files: read with their options and checked, and written so that they are read back as what they are."""

import ast
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from typing import Any, TextIO

import yaml
from mmengine.config import Config
from mmengine.fileio import YamlHandler, dump, register_handler

from ...utils.configs import require_config_file
from ...utils.files import naming, resource_dir
from ...utils.paths import short_path
from ...utils.reading import read_text
from ..checks.config import check_names, check_options
from ..checks.values import check_values
from ..common import note_builds
from .run_length import fit_intervals, fit_schedule, run_length

# mmengine replaces variables ({{ fileDirname }}, {{$HOME:x}}, {{ _base_.x }}) in a config's text, before it is parsed.
BRACES = re.compile(r'{(?={)|(?<={){')
# The parser in C reads the lists of the toolboxes' configs in a tenth of the time.
LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
DEPTH = 100  # of YAML
NODES = 1_000_000  # of YAML


class WrittenConfig(Config):
    """A config as mmengine has it, in whose text no value is taken for one of mmengine's variables.

    Two braces next to each other are written as escapes, which Python (or JSON) turns back when the text is parsed.

    Attributes:
        given: What the tools add to, as it was before they did. It is no setting, and not in the text.
    """

    given: dict[str, Any] | None = None

    @classmethod
    def of(cls, cfg: Config) -> 'WrittenConfig':
        """Return a config that shares the settings of another one."""
        written = cls(cfg._cfg_dict, cfg.text, cfg.filename, cfg.env_variables, cfg._format_python_code)
        object.__setattr__(written, '_imported_names', cfg._imported_names)
        return written

    def keep_given(self, given: dict[str, Any]) -> None:
        """Set :attr:`given`; mmengine takes an assignment for a setting."""
        object.__setattr__(self, 'given', given)

    @property
    def pretty_text(self) -> str:
        """The settings as Python, laid out once while they stay the same: every checkpoint has this text."""
        plain = Config(self._cfg_dict, format_python_code=False).pretty_text
        return BRACES.sub(r'\\x7b', _lay_out(plain))  # two in a row stand in strings only

    def dump(self, file: str | Path | None = None) -> str | None:
        """Write the text into a file, as its ending says, or return it.

        YAML is written as JSON, which is YAML, too, and can escape braces in any string.
        """
        kind = Path(file or self.filename or '.py').suffix
        if kind not in ('.json', '.yaml', '.yml'):
            with naming(file or 'a config'):
                return super().dump(file)
        text = BRACES.sub(r'\\u007b', dump(self.to_dict(), file_format='json'))
        if file is None:
            return text
        Path(file).write_text(text, encoding='utf-8')
        return None


@lru_cache(maxsize=4)
def _lay_out(text: str) -> str:
    """Break the lines of a config's text as PEP 8 has it, which takes a fifth of a second."""
    from yapf.yapflib.yapf_api import FormatCode

    return FormatCode(text, style_config='pep8')[0]


# ---- reading ----


def read_config(path: str, options: dict | None = None, fit: bool = True) -> WrittenConfig:
    """Read a config file and merge options into it.

    Args:
        fit: Have schedule and intervals follow a length that the options change, and say so.

    Raises:
        ValueError: If there is no such file (with the names that come near), or it or an option cannot be used.
    """
    options = options or {}
    require_config_file(path)
    register_handler(['yaml', 'yml'])(SafeYamlHandler)  # in this process no YAML runs anything from here on
    note_builds()
    try:
        cfg = WrittenConfig.of(Config.fromfile(path))
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):
            raise ValueError(_explain_config(path, error)) from error
        # mmengine copies configs to read them
        raise OSError(error.errno, error.strerror, error.filename or tempfile.gettempdir()) from error
    except Exception as error:  # a config is code
        raise ValueError(_explain_config(path, error)) from error
    check_names(cfg)
    check_options(cfg, options)
    length = run_length(cfg)
    try:
        cfg.merge_from_dict(options)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(f'--cfg-options do not fit {path}: {reason}') from error
    check_values(cfg)
    if fit and not any(name.startswith('param_scheduler') for name in options):
        fit_schedule(cfg, length)
    if fit and not any('hooks' in name for name in options):
        fit_intervals(cfg, length)
    return cfg


def _explain_config(path: str, error: Exception) -> str:
    """Say in which file and line of a config, or of one that it builds on, an error is."""
    for base in _bases(path) if not isinstance(error, RecursionError) else ():
        if not Path(base).is_file():
            return f'{path} builds on {base}, which is not there: correct its _base_'
        try:
            Config.fromfile(base)
        except Exception as reason:
            return _explain_config(base, reason)
    if isinstance(error, SyntaxError):
        return f'{path}, line {error.lineno}: {error.msg}'
    frames = [(frame.f_code, number) for frame, number in walk_tb(error.__traceback__)]
    run = [(short_path(code.co_filename), f', line {number}') for code, number in frames if code.co_name == '<module>']
    file, line = run[0] if run else (path, '')  # of the code of a config
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f'{file}{line}: {type(error).__name__}: {text}'


def _bases(path: str) -> list[str]:
    """Return the files that a config in Python builds on, as far as it can be read."""
    try:
        statements = ast.parse(read_text(path)).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two of deep nesting
        return []
    values = [x.value for x in statements if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == '_base_']
    names = [node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
    folder = os.path.dirname(path)
    return [os.path.normpath(os.path.join(folder, str(name))) for name in names if '::' not in str(name)]


def default_work_dir(config: str) -> str:
    """Return where OpenMMLab's tools put the results of a config."""
    return f'./work_dirs/{Path(config).stem}'


def read_recipe(name: str) -> WrittenConfig:
    """Return a config of ``configs``, as it stands there, to be filled in."""
    return WrittenConfig.of(Config.fromfile(resource_dir('configs') / name))


# ---- YAML ----


class SafeYamlHandler(YamlHandler):
    """Reads YAML with the safe loader, in place of mmengine's handler, whose loader runs what tags name."""

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        text = file.read()
        try:
            _check_size(text)
            return yaml.load(text, Loader=LOADER)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(
                f'it holds an object of Python, which is not read ({error.problem}); leave it out'
            ) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f'it is no YAML: {type(error).__name__}') from None


def _check_size(text: str) -> None:
    """Refuse what would overflow the stack, or the memory once its aliases are written out."""
    sizes: dict[str, int] = {}  # nodes under each anchor
    inside: list[tuple[str | None, int]] = []  # anchor of each collection that is open, and its nodes so far
    for event in yaml.parse(text, Loader=LOADER):
        anchor, size = getattr(event, 'anchor', None), 1
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append((anchor, 1))
            if len(inside) > DEPTH:
                raise ValueError(f'it is nested more than {DEPTH} deep')
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = inside.pop()
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if anchor is not None:
            sizes[anchor] = size
        if inside:
            inside[-1] = inside[-1][0], inside[-1][1] + size
        if size > NODES:
            raise ValueError(f'its aliases stand for more than {NODES} values')
