"""Results of an earlier run in the folder of a new one: found, and replaced only where the user says so."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints.finding import (
    STEP_CHECKPOINT,
    checkpoint_folder,
    find_best,
    find_checkpoints,
    find_config,
    is_whole,
    recognise,
)
from ...registry import HOOKS
from ...utils import manifest
from ...utils.configs import type_name
from ...utils.paths import short_path
from ...visualization.run_files import PICTURES, claimed_pictures

CHECKPOINTS = ('checkpoint', 'best checkpoint', 'last_checkpoint')


def find_results_to_replace(
    cfg: Config, overwrite: bool = False, option: str = '--work-dir', names: Sequence[str] = ()
) -> 'ReplaceResultsHook':
    """Return the hook that removes the checkpoints that a run would sooner or later mix up with its own.

    A new run replaces all checkpoints in its folder. One that goes on from a checkpoint replaces those after it, so
    nothing if that is the last. A file of the user's under a name that the run writes to is an error in any case.

    Args:
        cfg: Ready to be run: with the checkpoint that it goes on from in ``load_from``.
        option: Option of the command that names the folder.
        names: Names of more files that the command writes into the folder.
    """
    folder = checkpoint_folder(cfg)
    found = find_checkpoints(folder)
    if cfg.get('resume') and cfg.get('load_from'):
        resumed = Path(cfg.load_from)
        number = next((i for i, path in enumerate(found) if path.resolve() == resumed.resolve()), -1)
        checkpoints = [path for path in found[number + 1 :] if is_whole(path)]
        remedy = 'go on from the last with --resume alone'
    else:
        checkpoints = found + find_best(folder)
        remedy = 'go on with --resume'
    if checkpoints and not overwrite:
        raise ValueError(
            f'{short_path(folder)} has results of an earlier run, up to {checkpoints[-1].name}: {remedy}, '
            f'replace them with --overwrite, or choose another {option}'
        )
    replaced = [path for path in (*checkpoints, find_config(Path(cfg.work_dir))) if path and path.is_file()]
    claimed = dict.fromkeys([*_claimed(cfg, names), *((path.parent, path.name) for path in replaced)])
    return ReplaceResultsHook(checkpoints, _adopt_or_refuse(claimed, option))


def require_no_images(folder: str | os.PathLike, roots: Iterable[str], option: str = '--work-dir') -> None:
    """Refuse a run's folder that images are read from: with the run's manifest there, no data set reads it again.

    A sub-folder of one with images is allowed, as data sets leave it out.
    """
    out = Path(os.path.realpath(folder))
    for root in roots:
        parts = [os.path.join(root, name) for name in ('train', 'val')]  # as labelled images are divided
        for place in [root, *(parts if all(map(os.path.isdir, parts)) else ())]:
            real = Path(os.path.realpath(place))
            if real == out or real.is_relative_to(os.path.realpath(out / PICTURES)):
                raise ValueError(
                    f'{short_path(place)} has the images, and the run would write its own files into '
                    f'{short_path(folder)}: choose another {option}, such as {option} {short_path(Path(folder, "run"))}'
                )


def _adopt_or_refuse(claimed: Iterable[tuple[Path, str]], option: str) -> dict[Path, dict[str, dict]]:
    """Return entries for what runs without a manifest have left; raise if a file of another origin is in the way."""
    adopted: dict[Path, dict[str, dict]] = {}
    foreign = []
    for folder, name in claimed:
        path, listed = folder / name, manifest.read_manifest(folder)
        if name == manifest.MANIFEST:
            if not manifest.has_manifest(folder):
                foreign.append((path, 'is no list of the files of a run'))
        elif manifest.is_own(folder, name):
            continue
        elif name in listed:
            # a damaged checkpoint is moved out of the way when its name is needed
            if listed[name]['kind'] not in CHECKPOINTS or path.is_symlink() or not path.is_file():
                foreign.append((path, 'is not what the run has written there'))
        elif not manifest.has_manifest(folder) and (kind := recognise(path)):
            adopted.setdefault(folder, {})[name] = dict(kind=kind, **manifest.fingerprint(path))
        else:
            foreign.append((path, 'was not written by a run'))
    if foreign:
        path, what = foreign[0]
        more = f' (and {len(foreign) - 1} more such files)' if len(foreign) > 1 else ''
        raise ValueError(
            f'{short_path(path)} {what}, and this one would write a file of that name{more}: move it away, or choose '
            f'another {option}'
        )
    return adopted


def _claimed(cfg: Config, names: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield ``(folder, name)`` of all that is there under a name that the run may write to."""
    work_dir, folder = Path(cfg.work_dir), checkpoint_folder(cfg)
    wanted = {manifest.MANIFEST, 'last_checkpoint', *names}
    for hook in cfg.get('custom_hooks') or []:
        kind = type_name(hook.get('type'))
        if kind == 'ConfigHook':
            wanted |= {'config.py'} if hook.get('text') else set()
            wanted |= {'options.json'} if hook.get('options') is not None else set()
        elif kind == 'ReportHook':
            wanted |= {'report.html', f'{PICTURES}/run.json'}
        elif kind == 'ReconstructionHook':
            wanted.add(os.path.normpath(hook.get('out', 'reconstruction.png')))
    for backend in (cfg.get('visualizer') or {}).get('vis_backends') or []:
        if backend.get('id_file') and Path(backend['id_file']).parent == work_dir:
            wanted.add(Path(backend['id_file']).name)
    for name in sorted(wanted):
        if os.path.lexists(work_dir / name):
            yield work_dir, name
    yield from ((work_dir, name) for name in claimed_pictures(work_dir))
    checkpoints = _checkpoint_names(cfg)
    for path in sorted(folder.glob('*')):
        if checkpoints.fullmatch(path.name) and not (path.is_dir() and manifest.has_manifest(path)):
            yield folder, path.name
    if folder != work_dir and os.path.lexists(folder / manifest.MANIFEST):
        yield folder, manifest.MANIFEST


def _checkpoint_names(cfg: Config) -> re.Pattern:
    """Return a pattern of the names of checkpoints that a run may write."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    template = hook.get('filename_tmpl') or ('epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth')
    name = re.escape(str(template)).replace(re.escape('{}'), r'\d+')
    best = f'|best_.*{name}' if hook.get('save_best') else ''
    return re.compile(f'{name}{best}|{STEP_CHECKPOINT.pattern}')


@HOOKS.register_module()
class ReplaceResultsHook(Hook):
    """Removes results of an earlier run after the first step, because most mistakes show before it.

    Args:
        checkpoints: Those to be removed.
        adopted: Entries for manifests, by folder: files of runs that had none, known by their content.
    """

    priority = 'VERY_HIGH'

    def __init__(self, checkpoints: list[Path], adopted: dict[Path, dict[str, dict]]):
        self.checkpoints, self.adopted = checkpoints, adopted

    def before_train(self, runner: Runner) -> None:
        """Write a manifest for files of runs that had none."""
        if is_main_process():
            for folder, entries in self.adopted.items():
                manifest.note(folder, entries | manifest.read_manifest(folder))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        paths, self.checkpoints = self.checkpoints, []
        if paths and is_main_process():
            removed = sum(manifest.remove_own(path.parent, path.name) for path in paths)
            runner.logger.info(f'Removed {removed} checkpoints of an earlier run')
