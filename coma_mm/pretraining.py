"""``coma_mm.pretrain``: from a folder of images to weights; all settings follow from the data and the machine."""

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
from .engine.runner.earlier_results import ReplaceResultsHook, find_results_to_replace, require_no_images
from .engine.runner.loggers import check_loggers
from .engine.runner.run_folder import REMOVE, recall_options
from .engine.runner.signals import stop_listening
from .export.weights import export
from .planning import plan_pretraining
from .settings import PretrainSettings, given_settings
from .utils import ranges
from .utils.arguments import require_flag
from .utils.clock import command
from .utils.configs import type_name
from .utils.files import require_writable
from .utils.folder_lock import lock_work_dir
from .utils.manifest import fingerprint, own_file
from .utils.paths import is_named, quoted_path, short_path
from .utils.stopping import Stopped
from .utils.text import one_line, printable
from .visualization.serve import serve_report

HANDED_OVER = 'last.pth', 'backbone.safetensors'  # names in the run's folder


@command()
def pretrain(
    data: str | PathLike | Sequence[str | PathLike] | None,
    out: str | PathLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    serve: int | None = None,
    **settings: Any,
) -> Path:
    """Pre-train a backbone on images without labels.

    Args:
        data: Folders of images, sub-folders and all, or ``.txt`` files of their paths.
        out: The run's folder. At the end it has ``backbone.safetensors``, ``last.pth``, ``config.py``,
            ``reconstruction.png``, and the run's logs and newest checkpoints.
        resume: Go on with the run in ``out``; nothing else may be given, as all settings come from that run.
        overwrite: Replace the results of an earlier run in ``out``.
        serve: Port at which the report is shown on this machine, while this process lives.
        **settings: Those of a new run, such as ``arch='small', batch_size=64, minutes=60``: the options that
            ``coma-mm pretrain --help`` lists, as :class:`.PretrainSettings` names them.

    Returns:
        The file of the backbone's weights.

    Raises:
        FileNotFoundError: If there are no images, or no run to go on with.
        ValueError: If a setting is impossible.
        KeyboardInterrupt: After Ctrl-C, or a notebook's stop button: while the run trains a checkpoint is saved first,
            from which ``resume=True`` goes on. A second Ctrl-C is obeyed at once.
        RunInterrupted: After SIGTERM, SIGHUP or SIGUSR1, once a checkpoint is saved; a ``SystemExit``.
    """
    out = run(PretrainSettings, data, out, settings, resume, overwrite, serve, HANDED_OVER, plan_pretraining).work_dir
    return hand_over(Path(out))


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
    """Check what was given, plan a new run or read the one to go on with, and train; see :func:`pretrain`.

    Args:
        kind: The class of its settings.
        names: Of files that the run hands over.
        plan: Returns the config of a new run, of its settings.
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
    results = find_results_to_replace(cfg, overwrite, '--out', names)
    lock = lock_work_dir(out, '--out')  # noqa: F841 - for as long as this process lives
    runner = build_quietly(cfg, logging.WARNING)
    runner.register_hook(ReplaceResultsHook(results))
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
    """Return what a new run is built of; see :func:`run`."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        plan(settings).dump(path)
        return read_run(path, Path(settings.out), settings.log, dict(log=settings.log))


def continue_run(out: Path) -> Config:
    """Return what a run is built of that goes on in its folder."""
    if (path := find_config(out)) is None:
        raise FileNotFoundError(_no_run(out))
    log = recall_options(out, dict(log=None), REMOVE).get('log')
    check_loggers(log or ())
    cfg = read_run(path, out, log, None)
    cfg.resume = True
    prepare_resuming(cfg, required=True)
    return cfg


def read_run(path: Path, out: Path, log: Sequence[str] | None, options: dict | None) -> Config:
    """Return a config made ready, with the hooks that show the run and keep its config and options in its folder."""
    given = dict(config=str(path), cfg_options=None, work_dir=str(out), launcher='none', local_rank=0)
    cfg = prepare(Namespace(**given, log=log, resume=options is None))
    cfg.custom_hooks.append(dict(type='coma_mm.ProgressHook'))
    cfg.custom_hooks.append(dict(type='coma_mm.ConfigHook', text=path.read_text(), options=options))
    return cfg


def check_arguments(data: Any, out: Any, given: dict[str, Any]) -> None:
    """Refuse arguments of :func:`pretrain` of the wrong kind, before anything is done."""
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
    data: Any,
    out: str | PathLike,
    settings: dict,
    resume: bool,
    overwrite: bool,
    names: tuple[str, ...] = HANDED_OVER,
) -> tuple[Path, list[str]]:
    """Return the run's folder and those of images as absolute paths, once nothing of the user's is in the way there."""
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if resume:
        given = [*([] if data is None else ['data']), *settings, *(['overwrite'] if overwrite else [])]
        if given:
            options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise ValueError(f'with --resume all settings come from the run in {out}: leave {options} out')
        if find_config(out) is None:
            raise FileNotFoundError(_no_run(out))
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


def hand_over(out: Path) -> Path:
    """Write what others take from a finished run: ``last.pth`` and ``backbone.safetensors``."""
    out = out.absolute()
    last, backbone = link_checkpoint(out, HANDED_OVER[0]), out / HANDED_OVER[1]
    export(str(last), str(backbone), prefix='backbone.', kind='weights')
    files = sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith('.'))
    print(one_line(f'{short_path(out)} has {", ".join(files)}'))
    return backbone


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
