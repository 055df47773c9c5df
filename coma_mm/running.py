"""A run of ``coma-mm pretrain`` or ``finetune``: what was given is checked, a runner is built, and it trains."""

import logging
import os
import re
import signal
from argparse import Namespace
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from .checkpoints.finding import find_config, newest_whole_checkpoint
from .datasets.exclusion import Exclusion
from .datasets.loading import read_channels, require_range
from .engine import RunInterrupted
from .engine.runner.build import build_quietly, prepare, prepare_resuming
from .engine.runner.earlier_results import find_results_to_replace, require_no_images
from .engine.runner.loggers import check_loggers
from .engine.runner.run_folder import REMOVE, recall_options
from .engine.runner.signals import stop_listening
from .settings import PretrainSettings, given_settings
from .utils import ranges
from .utils.arguments import require_flag
from .utils.configs import type_name
from .utils.files import require_writable
from .utils.folder_lock import lock_work_dir
from .utils.manifest import fingerprint, own_file
from .utils.paths import is_named, quoted_path, short_path
from .utils.stopping import Stopped
from .utils.text import printable
from .visualization.serve import serve_report


def run(
    kind: type,
    data: Any,
    out: Any,
    settings: dict[str, Any],
    resume: bool,
    overwrite: bool,
    serve: int | None,
    names: tuple[str, ...],
    plan: Callable[[Any], Config],
) -> Runner:
    """Check what was given, plan a new run or read the one to go on with, and train.

    Arguments without a line below are those of :func:`.pretraining.pretrain`.

    Args:
        kind: Class of its settings.
        names: Files that the run hands over.
        plan: Function from the settings of a new run to its config.
    """
    require_flag(resume=resume, overwrite=overwrite)
    if serve is not None:
        ranges.require_in(ranges.PORT, serve=serve)
    given = given_settings(kind, settings)
    check_arguments(data, out, given)
    out, roots = check_places(data, out, given, resume, overwrite, names)
    if serve is not None:
        print(f'the report: http://localhost:{serve_report(out, serve).server_port}', flush=True)
    cfg = continue_run(out) if resume else start_run(kind(roots, out, **given), plan)
    command = 'pretrain' if kind is PretrainSettings else 'finetune'
    for hook in cfg.custom_hooks:
        if type_name(hook['type']) == 'StepCheckpointHook':
            hook['way_on'] = f'coma-mm {command} --out {quoted_path(out)} --resume'
    if (command == 'finetune') != (type_name(cfg.model.type) == 'ImageClassifier'):
        raise ValueError(f'another command began the run in {short_path(out)}: go on with that, not coma-mm {command}')
    replacing = find_results_to_replace(cfg, overwrite, '--out', names)
    lock = lock_work_dir(out, '--out')  # noqa: F841 - for as long as this process lives
    runner = build_quietly(cfg, logging.WARNING)
    runner.register_hook(replacing)
    try:
        runner.train()
    except RunInterrupted as end:
        if end.code == 128 + signal.SIGINT:
            stop = Stopped(signal.SIGINT, end.where)
            stop.args = (f'stopped {end.where}: a checkpoint is saved in {out}; resume=True goes on from it',)
            raise stop from None
        raise
    finally:
        stop_listening()
    return runner


def start_run(settings: Any, plan: Callable[[Any], Config]) -> Config:
    """Return the config of a new run, made ready; ``plan`` as of :func:`run`."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        plan(settings).dump(path)
        return read_run(path, Path(settings.out), settings.log, dict(log=settings.log))


def continue_run(out: Path) -> Config:
    """Return the config of a run that goes on in its folder, made ready."""
    if (path := find_config(out)) is None:
        raise FileNotFoundError(_no_run(out))
    log = recall_options(out, dict(log=None), REMOVE).get('log')
    check_loggers(log or ())
    cfg = read_run(path, out, log, None)
    cfg.resume = True
    prepare_resuming(cfg, required=True)
    return cfg


def read_run(path: Path, out: Path, log: Sequence[str] | None, options: dict | None) -> Config:
    """Read a config and make it ready, with the hooks that show the run and keep its config and options."""
    given = dict(config=str(path), cfg_options=None, work_dir=str(out), launcher='none', local_rank=0)
    cfg = prepare(Namespace(**given, log=log, resume=options is None))
    cfg.custom_hooks.append(dict(type='coma_mm.ProgressHook'))
    cfg.custom_hooks.append(dict(type='coma_mm.ConfigHook', text=path.read_text(), options=options))
    return cfg


def check_arguments(data: Any, out: Any, given: dict[str, Any]) -> None:
    """Refuse arguments of the wrong kind, before anything is done."""
    if sum(length in given for length in ('epochs', 'steps', 'minutes')) > 1:
        raise ValueError('give one of epochs, steps and minutes')
    read_channels(given.get('channels', 3), given.get('value_range'))
    named = [data] if isinstance(data, (str, PathLike)) else [] if data is None else data
    if not isinstance(named, Sequence) or (data is not None and not named):
        raise ValueError(f'data must be a folder of images, or a list of them, got {data!r}')
    places = [(name, given.get(name, '.')) for name in ('labels', 'init', 'teacher')]
    for name, value in [('out', out), *(('data', path) for path in named), *places]:
        if not is_named(value):
            raise ValueError(f'{name} must name a {"file or " * (name in ("init", "teacher"))}folder, got {value!r}')
    Exclusion(given.get('exclude'))
    require_flag(no_flip=given.get('no_flip', False))
    require_range('(0, 1]', crop_scale=given.get('crop_scale', (0.2, 1.0)))
    check_loggers(given.get('log', ()))
    place = os.path.abspath(os.fspath(out))
    if re.search('[\ud800-\udfff]', place):  # where PyTorch writes no checkpoints
        raise ValueError(f'{printable(place)} has a name in it that is not UTF-8: give out (--out) another folder')
    if not isinstance(given.get('arch', ''), str):
        raise ValueError(f'arch must be a name such as tiny, got {given["arch"]!r}')


def check_places(
    data: Any, out: str | PathLike, settings: dict, resume: bool, overwrite: bool, names: tuple[str, ...]
) -> tuple[Path, list[str]]:
    """Refuse places where something of the user's is in the way; return the run's folder and those of images.

    Returned paths are absolute. Without ``resume`` there is at least one folder of images.
    """
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if resume:
        given = [*([] if data is None else ['data']), *settings, *(['overwrite'] if overwrite else [])]
        if given:
            options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise ValueError(f'with --resume all settings come from the run in {out}: leave {options} out')
        return out, []
    if data is None:
        raise ValueError(f'give data, a folder of images, or resume=True to go on with the run in {out}')
    named = [data] if isinstance(data, (str, PathLike)) else data
    roots: list[str] = [os.path.abspath(os.path.expanduser(root)) for root in named]
    labelled = [settings[name] for name in ('labels', 'val') if isinstance(settings.get(name), (str, PathLike))]
    require_no_images(out, [*roots, *map(os.path.expanduser, labelled)], '--out')
    require_writable(out)
    hooks = [dict(type=f'coma_mm.{name}') for name in ('ReportHook', 'ReconstructionHook')]
    hooks.append(dict(type='coma_mm.ConfigHook', text='config.py'))
    cfg = dict(work_dir=str(out), custom_hooks=hooks, default_hooks=dict(checkpoint=dict(by_epoch=False)))
    find_results_to_replace(Config(cfg), overwrite, '--out', names)  # before anything takes time
    return out, roots


def _no_run(out: Path) -> str:
    if (out / 'config.py').is_file():
        return (
            f'{short_path(out)}/config.py is not what the run has written, so it is read only if you name it: '
            f'coma-mm train {short_path(out)}/config.py --work-dir {short_path(out)} --resume'
        )
    return f'there is no run in {short_path(out)} to go on with: it has no config.py'


def link_checkpoint(out: Path, name: str, checkpoint: Path | None = None) -> Path:
    """Give a checkpoint of a finished run, the newest if none is named, a name that stays; return its path."""
    checkpoint = checkpoint or newest_whole_checkpoint(out)
    if checkpoint is None:
        raise FileNotFoundError(f'{out} has no whole checkpoint, of which weights could be written')
    with own_file(out, name, 'weights', fingerprint(checkpoint)) as unfinished:
        unfinished.unlink()
        try:
            os.link(checkpoint, unfinished)
        except OSError:  # a file system without links
            copyfile(checkpoint, unfinished)
    return out / name
