"""A work dir belongs to one run at a time, and its results are not overwritten unasked."""

import fcntl
import os
import socket
import sys
from pathlib import Path
from typing import TextIO

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from ..registry import HOOKS
from .checkpoint import WholeFileBackend, checkpoint_folder, find_checkpoints, is_whole
from .common import short_path


def lock_work_dir(work_dir: str | os.PathLike, option: str = '--work-dir') -> TextIO | None:
    """Keep other runs out of a folder for as long as the file that this returns is open, or the process lives.

    The lock is one of the kernel's on ``.lock`` in the folder, which goes with the process however that ends, and which
    loading workers do not inherit. Ranks of one run share it: the first one has it.

    Returns:
        The file; None in other ranks, and on file systems without locks, which is said.
    """
    if _rank():
        return None
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    file = open(Path(work_dir, '.lock'), 'a+')
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        owner = file.read().strip() or 'one that has not said which'
        sys.exit(
            f'error: another run is at work in {short_path(work_dir)} ({owner}): wait for its end, stop it, or choose '
            f'another {option}'
        )
    except OSError as error:
        print(
            f'{short_path(work_dir)} cannot be locked ({error.strerror}): nothing keeps a second run out of it',
            file=sys.stderr,
        )
        file.close()
        return None
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    return file


def find_results_to_replace(cfg: Config, overwrite: bool = False, option: str = '--work-dir') -> list[Path]:
    """Return the checkpoints that a run would sooner or later mix up with its own; exit unless it may replace them.

    A new run replaces all checkpoints in its folder, one that goes on from a checkpoint those that come after it. Runs
    that go on from the last one in their folder replace nothing.

    Args:
        cfg: Ready to be run: with the checkpoint that it goes on from in ``load_from``.
        overwrite: Whether they may be replaced.
        option: What a command calls the folder.
    """
    folder = checkpoint_folder(cfg)
    found = find_checkpoints(folder)
    if cfg.get('resume') and cfg.get('load_from'):
        resumed = Path(cfg.load_from)
        number = next((i for i, path in enumerate(found) if path.resolve() == resumed.resolve()), -1)
        results = [path for path in found[number + 1 :] if is_whole(path)]
        remedy = 'go on from the last with --resume alone'
    else:
        results = found + sorted(folder.glob('best_*.pth'))
        remedy = 'go on with --resume'
    if results and not overwrite:
        if _rank():
            sys.exit(1)  # the first one says why
        sys.exit(
            f'error: {short_path(folder)} has results of an earlier run, up to {results[-1].name}: {remedy}, '
            f'replace them with --overwrite, or choose another {option}'
        )
    return results


def _rank() -> int:
    """Return the rank that a launcher has given this process, which torch may not have been told yet."""
    names = 'RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


@HOOKS.register_module()
class ReplaceResultsHook(Hook):
    """Removes results of an earlier run after the first step, until which most mistakes have shown themselves.

    Args:
        paths: What :func:`find_results_to_replace` found.
    """

    priority = 'VERY_HIGH'

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        """Remove, once."""
        paths, self.paths = self.paths, []
        if paths and is_main_process():
            for path in paths:
                WholeFileBackend().rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            runner.logger.info(f'Removed {len(paths)} checkpoints of an earlier run')
