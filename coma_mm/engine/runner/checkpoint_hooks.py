"""Hooks that work on checkpoints while a runner saves and loads them."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch import nn

from ...checkpoints.pretrained import check_settings, load_exactly
from ...checkpoints.run_state import check_run_state
from ...checkpoints.settings import describe_backbone
from ...checkpoints.writing import remove_checkpoint
from ...registry import HOOKS
from ...utils import manifest
from ...utils.paths import short_path
from ..common import unwrap

ADVICE = (
    'To start from those weights of load_from that fit, as with a detector of other classes, set load_partial=True, or '
    'name the beginnings of the weights that need not fit, load_partial="[roi_head.,bbox_head.]"; for the backbone '
    'alone model.backbone.init_cfg=dict(type="coma_mm.Pretrained", checkpoint=FILE) in place of load_from'
)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """Saves the new checkpoint before it removes the old one; the tools put it in the place of mmengine's hook.

    The oldest checkpoint goes once the new one is there, and so does the best one before. mmengine removes them first:
    killed in between, a run with ``max_keep_ckpts=1`` had none. ``last_checkpoint`` is written whole. Only files that
    the run's manifest lists are removed, whatever names of files a resumed checkpoint brings along.
    """

    file_backend: 'BaseStorageBackend | _RemoveLater'
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """Drop file names that came with a checkpoint, and remove unfinished files of a killed run."""
        info, outdated = runner.message_hub.runtime_info, []
        if 'keep_ckpt_ids' in info and self.max_keep_ckpts > 0:
            ids = [step for step in info['keep_ckpt_ids'] if type(step) is int]
            outdated, ids = ids[: -self.max_keep_ckpts], ids[-self.max_keep_ckpts :]
            runner.message_hub.update_info('keep_ckpt_ids', ids)  # or mmengine's removes the others by their names
        super().before_train(runner)
        self._remove(outdated)
        folder = Path(self.out_dir)

        def own(path: str | None) -> str | None:
            """Return where a best checkpoint of this name is in the run's folder, if it is."""
            name = Path(path).name if isinstance(path, str) else ''
            return str(folder / name) if name.startswith('best_') and (folder / name).is_file() else None

        resumed = Path(runner._load_from or '')
        if runner.iter and resumed.resolve().parent == folder.resolve():
            self.last_ckpt = str(resumed)  # to be saved again if its validation, made up for, is the best
        if self.save_best is not None:
            self.best_ckpt_path = own(getattr(self, 'best_ckpt_path', None))
            paths = getattr(self, 'best_ckpt_path_dict', None) or {}
            self.best_ckpt_path_dict = {key: own(path) for key, path in paths.items()}
        if is_main_process() and folder.is_dir():
            manifest.remove_unfinished(folder)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, and only then remove the best one before."""
        if not hasattr(self, 'file_backend'):  # runner.val() alone: nothing is trained, so nothing is to be saved
            return
        backend = self.file_backend
        self.file_backend = later = _RemoveLater(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        paths = [getattr(self, 'best_ckpt_path', None), *(getattr(self, 'best_ckpt_path_dict', None) or {}).values()]
        for path in later.removals:
            if path not in paths:
                remove_checkpoint(backend, path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
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
        manifest.write_own(runner.work_dir, 'last_checkpoint', 'last_checkpoint', self.last_ckpt)
        self._remove(outdated)

    def _remove(self, steps: Sequence[int]) -> None:
        """Remove checkpoints of the run, but for those with the name of one that is kept."""
        if not steps or not is_main_process():
            return
        kept = {self.filename_tmpl.format(step) for step in self.keep_ckpt_ids}
        for name in {self.filename_tmpl.format(step) for step in steps} - kept:  # none, if all have one name
            remove_checkpoint(self.file_backend, self.file_backend.join_path(self.out_dir, name))


class _RemoveLater:
    """A backend that notes what to remove."""

    def __init__(self, backend: BaseStorageBackend):
        self.backend = backend
        self.removals: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.removals.append(path)

    rmtree = remove


@HOOKS.register_module()
class RunStateHook(Hook):
    """Checks the state in a checkpoint that a resumed run takes up, before other hooks; the tools add this one."""

    priority = 'HIGHEST'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if getattr(runner, '_resume', False):
            check_run_state(checkpoint, short_path(runner._load_from or 'the checkpoint'))


@HOOKS.register_module()
class ExactCheckpointHook(Hook):
    """Makes the runner stop on a checkpoint that does not fit, where it would warn and go on.

    The tools add it to all runs that load one.

    Args:
        partial: What need not fit, see :func:`coma_mm.engine.load_exactly`: ``load_partial`` of the config, for weights
            to start from. ``None``, to resume or test: all have to.
    """

    priority = 'BELOW_NORMAL'  # after hooks that exchange weights, such as EMAHook, and before all that trust it

    def __init__(self, partial: bool | Sequence[str] | None = None):
        self.partial = partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = _plain_model(runner)
        if hasattr(model, 'load_backbone'):  # it takes the backbone of any checkpoint
            model.load_backbone(checkpoint, 'the checkpoint')
            checkpoint['state_dict'] = model.state_dict()  # what the runner will load after this hook
            return
        try:
            load_exactly(model, checkpoint, partial=self.partial or False)
        except ValueError as error:
            if self.partial is None:
                raise
            raise ValueError(f'{error}. {ADVICE}') from None
        if self.partial:
            checkpoint['state_dict'] = model.state_dict()


@HOOKS.register_module()
class BackboneSettingsHook(Hook):
    """Writes the backbone's settings into checkpoints, and compares them when one is loaded.

    ``meta['backbone']`` is a JSON object of the arguments of the backbone's constructor: as the config gives them, with
    those of the backbone's ``settings`` filled in, which later versions may have other defaults for. ``meta['scope']``
    is the default scope that its type is meant in. ``tools/train.py`` and ``tools/test.py`` add this hook.
    """

    priority = 'LOWEST'  # after ExactCheckpointHook: other shapes say more

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        arguments, model = (runner.cfg.get('model') or {}).get('backbone'), _plain_model(runner)
        if isinstance(arguments, dict) and hasattr(model, 'backbone'):
            with suppress(TypeError):  # a config of Python objects, which is no plain data
                settings = describe_backbone(arguments, model.backbone)
                checkpoint['meta'].update(backbone=settings, scope=runner.cfg.get('default_scope') or 'mmengine')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = _plain_model(runner)
        if hasattr(model, 'backbone'):
            check_settings(model.backbone, checkpoint, 'the checkpoint')


def _plain_model(runner: Runner) -> nn.Module:
    """Return a runner's model without what distributed training and test-time augmentation wrap it in."""
    model = unwrap(runner.model)
    return model.module if isinstance(model, BaseTTAModel) else model
