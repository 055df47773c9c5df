"""A run's folder: config and options are written there at its start, and read when it goes on."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints.finding import find_config, newest_whole_checkpoint
from ...registry import HOOKS
from ...settings import LOGGERS
from ...utils import manifest
from ...utils.configs import walk
from ...utils.ranges import Range
from ...utils.reading import is_short_setting, read_json
from ...utils.text import printable

OPTIONS = 'options.json'  # in the run's folder
MOST = 1_000_000  # bytes of that file
# Parts of a setting's name below which code is chosen.
ACTING = 'type', 'custom_imports', 'imports', 'backend_args', 'file_client_args', 'collate_fn', 'worker_init_fn'
# Settings whose text names classes, modules, weights, or places that are written to.
NAMING = {
    *('default_scope', 'constructor', 'runner_type', 'launcher', 'init_cfg', 'pretrained', 'checkpoint', 'load_from'),
    *('strategy', 'filename_tmpl', 'work_dir', 'out_dir', 'save_dir', 'log_dir'),
}
DOTTED = re.compile(r'\s*[A-Za-z_]\w*\s*([.:]\s*[A-Za-z_]\w*\s*)+')  # a function or class, as registries import it
RUN_WHEN_READ = '.pkl', '.pickle', '.pk', '.py'
AGAIN = 'if it is meant, give it again on the command line; if not, remove {file}'
REMOVE = 'remove {file}'  # of a command that takes no options with --resume


@HOOKS.register_module()
class ConfigHook(Hook):
    """Writes the run's config into its folder once all that could fail before the first step has not.

    mmengine writes it while the runner is built: a start that failed would have replaced the config of an earlier run.

    Args:
        text: Written to ``config.py``, in place of the runner's config under its own name. (A hand-written config
            in the folder keeps that name: the run's gets another one.)
        options: Options of the command line, kept in ``options.json`` for those who go on with the run.
    """

    priority = 'LOWEST'

    def __init__(self, text: str | None = None, options: dict | None = None):
        self.text = text
        self.options = options
        self.is_written = False

    @master_only
    def before_train(self, runner: Runner) -> None:
        if self.is_written:  # by a run that validates now; its user may have changed the file
            return
        folder, self.is_written = runner.work_dir, True
        if self.text is None:
            name = Path(runner.cfg.filename).name if runner.cfg.filename else f'{runner.timestamp}.py'
            with manifest.own_file(folder, free_name(Path(folder), name), 'config') as unfinished:
                runner.cfg.dump(unfinished)
        else:
            manifest.write_own(folder, 'config.py', 'config', self.text)
        if self.options is not None:
            manifest.write_own(folder, OPTIONS, 'options', json.dumps(self.options, indent=1))

    before_val = before_test = before_train


def free_name(folder: Path, name: str) -> str:
    """Return the name for a run's config: ``name``, unless a file of somebody else has that; then another one."""
    if not os.path.lexists(folder / name) or manifest.is_own(folder, name):
        return name
    if known := manifest.find_kind(folder, 'config'):
        return known[-1]
    stem, number = Path(name).stem, 1
    while os.path.lexists(folder / (name := f'{stem}_of_run{number if number > 1 else ""}.py')):
        number += 1
    return name


def resolve_run(names: Sequence[str], commands: str) -> tuple[str | None, str, list[str]]:
    """Return the config, the checkpoint and the rest of ``[CONFIG] CHECKPOINT ...``.

    A run's folder stands for the config in it and its newest whole checkpoint, a checkpoint alone for itself and the
    config beside it. Errors end with the usage of the command, ``commands``.
    """
    first, *rest = names
    if any(name.endswith('.py') and not os.path.isdir(name) for name in names[:2]):  # the wrong order is said later
        if not rest:
            raise ValueError(f'a checkpoint is missing: {commands}')
        return first, rest[0], rest[1:]
    path = Path(first)
    if not path.is_dir() or (path / 'config.json').is_file():  # a folder as the hub has
        config = find_config(path.parent) if path.is_file() else None
        return None if config is None else str(config), first, rest
    config, checkpoint = find_config(path), newest_whole_checkpoint(path)
    if config is None or checkpoint is None:
        missing = 'config (*.py) of its own' if config is None else 'whole checkpoint'
        raise FileNotFoundError(f'{path} has no {missing}, so it is no folder of a run: {commands}')
    return str(config), str(checkpoint), rest


# ---- its options, read again ----
#
# A folder of somebody else's may hold any ``options.json``. So it can change numbers, words and paths of the config
# that the user names, and nothing that decides which code runs.


def recall_options(work_dir: str | Path, kept: dict, advice: str = AGAIN) -> dict:
    """Return the options that a run in a folder was started with; none if that is not known.

    Args:
        kept: Options and their defaults, by whose types those in the file are judged; ``None`` of a list of loggers.
        advice: Advice on a file that cannot be taken up, for the error.

    Returns:
        ``cfg_options``, a list of KEY=VALUE, and those of ``kept`` that are there.
    """
    path = Path(work_dir, OPTIONS)
    try:
        found = read_json(path, MOST, follow=False)
        if not isinstance(found, dict):
            raise ValueError('it holds none')
        texts = found.get('cfg_options') or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError('cfg_options is no list of KEY=VALUE')
        for name, default in kept.items():
            if name in found and not _is_like(found[name], default):
                raise ValueError(f'{name} has a value that --{name.replace("_", "-")} does not take')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(
            f'the options of the start in {path} cannot be taken up: {printable(error)}; {advice.format(file=path)}'
        ) from None
    return dict(cfg_options=texts, **{name: found[name] for name in kept if name in found})


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, (int, float)):
        return type(value) in (int, float) and value in Range(0)
    return value is None or isinstance(value, list) and bool(value) and all(name in LOGGERS for name in value)


def read_settings_again(texts: list[str], cfg: Config, work_dir: str | Path) -> dict:
    """Return settings of KEY=VALUE from a run's folder, by dotted names, as far as they are data.

    A setting has to be in the config, or its dict and a number to be its value. Text may replace text, and may not name
    a class or a function.
    """
    file, settings = Path(work_dir, OPTIONS), {}
    pickles = any(text.lower().endswith(RUN_WHEN_READ) for text in _texts([cfg[name] for name in cfg.keys()]))
    for text in texts:
        key, equals, content = text.partition('=')
        reason = None if equals and is_short_setting(text) else 'it is no KEY=VALUE, or a huge one'
        try:
            value = None if reason else DictAction._parse_iterable(content)
        except Exception:  # mmengine raises what it comes upon
            reason = 'its value cannot be read'
        reason = reason or _why_not(key, value, cfg, pickles)
        if reason:
            raise ValueError(
                f'{file} has the option {printable(text)[:200]}, which is not taken up: {reason}; '
                + AGAIN.format(file=file)
            )
        settings[key] = value
    return settings


def _why_not(key: str, value: Any, cfg: Config, pickles: bool) -> str | None:
    """Return why a setting is not taken up; None if it is."""
    names, texts = key.split('.'), _texts(value)
    acting = next((name for name in names if name in ACTING or name.startswith('_')), None)
    acting = acting or (names[-1] if texts and names[-1] in NAMING else None)
    if acting:
        return f'{printable(acting)[:80]} can name code, weights or a place'
    places = dict(walk(dict(cfg.items())))
    inside, node = key in places, places.get(key)
    if not inside and not isinstance(places.get(key.rpartition('.')[0]), dict):
        return 'the config has no such place'
    if not inside and (texts or isinstance(value, (list, tuple))):
        return 'the config does not have it'
    kept = dict if isinstance(node, dict) else (list, tuple) if isinstance(node, (list, tuple)) else object
    if callable(node) or value is not None and not isinstance(value, kept):
        return 'the config has something else there'
    for text in texts:
        if text in _texts(node):
            continue
        if DOTTED.fullmatch(text) or '{{' in text:
            return f'{printable(text)[:80]} can name code'
        is_path = '/' in text or key.endswith(('root', 'file', 'prefix'))
        if text.lower().endswith(RUN_WHEN_READ) or (pickles and is_path):
            return 'it can name a file that is run when it is read'
    return None


def _texts(node: Any) -> list[str]:
    """Return all texts in a value, keys of dicts too."""
    parts = (part for _, value in walk(node) for part in (value if isinstance(value, dict) else [value]))
    return [part for part in parts if isinstance(part, str)]
