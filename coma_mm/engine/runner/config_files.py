"""Config files: read with their options, and checked."""

import ast
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import Any, TextIO

import yaml
from mmengine.config import Config
from mmengine.fileio import YamlHandler, register_handler

from ...utils.configs import require_config_file
from ...utils.files import resource_dir
from ...utils.paths import short_path
from ...utils.reading import read_text
from ..checks.config import check_names, check_options
from ..checks.values import check_values
from ..common import note_builds
from .run_length import fit_intervals, fit_schedule, run_length

# ---- reading ----


def read_config(path: str, options: dict | None = None, fit: bool = True) -> Config:
    """Read a config file and merge options into it.

    Args:
        fit: Have schedule and intervals follow a length that the options change, and say so.
    """
    options = options or {}
    require_config_file(path)
    register_handler(['yaml', 'yml'])(SafeYamlHandler)  # in this process no YAML runs anything from here on
    note_builds()
    try:
        cfg = Config.fromfile(path)
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
    if 'mmsegmentation is not installed' in str(text) and find_spec('mmseg'):  # mmengine would have it replace the fork
        return f'{path}: onedl-mmsegmentation has no mmseg::...; give the path of that file'
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


def read_recipe(name: str) -> Config:
    """Return a config of ``configs``, as it stands there, to be filled in."""
    return Config.fromfile(resource_dir('configs') / name)


# ---- YAML ----


class SafeYamlHandler(YamlHandler):
    """Reads YAML with the safe loader, in place of mmengine's handler, whose loader runs what tags name."""

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        try:
            return yaml.safe_load(file)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(
                f'it holds an object of Python, which is not read ({error.problem}); leave it out'
            ) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f'it is no YAML: {type(error).__name__}') from None
