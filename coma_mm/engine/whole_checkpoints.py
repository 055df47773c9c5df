"""Checkpoints that are never half there: written whole, kept until the next one is, and resumed only if undamaged."""

import logging
import re
import zipfile
import zlib
from collections import deque
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log

from ..files import is_unfinished, whole_file
from ..registry import HOOKS


class WholeFileBackend(LocalBackend):
    """Writes files whole or not at all, in place of mmengine's backend for local files."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(filepath) as unfinished:
            unfinished.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)


def write_files_whole() -> None:
    """Have mmengine write local files, checkpoints above all, whole or not at all in this process."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, but for the order of things; the tools put it in that one's place.

    The oldest checkpoint goes once the new one is there, where mmengine removes it before: killed in between, a run
    with ``max_keep_ckpts=1`` had none. ``last_checkpoint`` is written whole. And only files of the run's own folder are
    removed, whatever names of files a resumed checkpoint brings along.
    """

    def before_train(self, runner) -> None:
        """Trust no names that came with a checkpoint, and clear away what a killed run left unfinished."""
        info = runner.message_hub.runtime_info
        if 'keep_ckpt_ids' in info:
            ids = runner.message_hub.get_info('keep_ckpt_ids')
            runner.message_hub.update_info('keep_ckpt_ids', [step for step in ids if isinstance(step, int)])
        super().before_train(runner)
        folder = Path(self.out_dir)

        def own(path: str | None) -> str | None:
            """Return where a best checkpoint of this name is in the run's folder, if it is."""
            return str(folder / Path(path).name) if path and (folder / Path(path).name).is_file() else None

        if self.save_best is not None:
            self.best_ckpt_path = own(getattr(self, 'best_ckpt_path', None))
            paths = getattr(self, 'best_ckpt_path_dict', None) or {}
            self.best_ckpt_path_dict = {key: own(path) for key, path in paths.items()}
        if is_main_process() and folder.is_dir():
            for path in folder.glob('.*.pth'):
                if is_unfinished(path):
                    path.unlink(missing_ok=True)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """Save, then say so in ``last_checkpoint``, then remove."""
        outdated = []
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            ids = [*self.keep_ckpt_ids, step]
            outdated, ids = ids[: -self.max_keep_ckpts], ids[-self.max_keep_ckpts :]
            self.keep_ckpt_ids = deque(ids, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        with whole_file(Path(runner.work_dir, 'last_checkpoint')) as unfinished:
            unfinished.write_text(self.last_ckpt)
        for old in outdated:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # of sharded models
                self.file_backend.rmtree(path)


def checkpoint_folder(cfg: Config) -> Path:
    """Return where a run keeps its checkpoints: its work dir, or a folder of that name in the hook's ``out_dir``."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    return Path(out_dir, Path(cfg.work_dir).name) if out_dir and out_dir != cfg.work_dir else Path(cfg.work_dir)


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the most epochs or iterations in a folder; name and pass over those that are damaged.

    What ``last_checkpoint`` says is not asked: it may be older than the newest file, empty, or name another folder,
    when a run has been killed, moved or copied.
    """
    found = {}
    for path in folder.glob('*.pth'):
        if match := re.fullmatch(r'(?!best_)\w+_(\d+)', path.stem):
            found[int(match[1]), path.stat().st_mtime_ns] = path
    for _, path in sorted(found.items(), reverse=True):
        if is_whole(path):
            return path
        print_log(f'{path} is damaged or was cut short; trying the one before', 'current', level=logging.WARNING)
    return None


def is_whole(path: Path) -> bool:
    """Say whether a file of ``torch.save`` is undamaged: it is a zip file, with a checksum (CRC-32) of each part."""
    if path.is_dir():  # of a sharded model, a file for each rank
        files = list(path.glob('*'))
        return bool(files) and all(map(is_whole, files))
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False
