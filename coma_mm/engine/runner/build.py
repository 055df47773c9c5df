"""From a config of any toolbox to a runner: :func:`prepare` completes the config, :func:`build_runner` builds."""

import io
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook, IterTimerHook, ParamSchedulerHook
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop, Runner
from torch import nn

from ...checkpoints.finding import checkpoint_folder, is_whole, newest_whole_checkpoint
from ...checkpoints.reading import read_checkpoints_safely
from ...checkpoints.run_state import START
from ...checkpoints.writing import write_files_whole
from ...datasets.listings import load_listings
from ...utils.configs import type_name, walk, walk_dicts
from ...utils.environment import count_cores
from ...utils.files import require_writable
from ...utils.manifest import MANIFEST, read_manifest, require_no_other
from ...utils.paths import short_path
from ..checks.channels import check_channels, check_modules
from ..checks.config import check_training
from ..checks.data import BUILDERS
from ..common import find_steps, import_toolbox, unwrap
from .config_files import default_work_dir, read_config
from .distributed import check_launcher, check_sharded, distribute_on_cpu, is_sharded
from .loggers import add_loggers

ADDED = 'coma_mm adds to this config: '
GIVEN = '_given'  # attribute of a config: the settings that the tools change, as they were before
# Beginnings of messages for the log file alone: mmengine's about itself, and ours about additions.
NOTICES = (
    *('"FileClient" will be', '"HardDiskBackend" is the alias', '`save_param_scheduler` is True but'),
    *('Exp name: ', 'Checkpoints will be saved to ', ADDED),
    *('is skipped since its requires_grad=False', 'paramwise_options -- '),
)


def prepare(args: Namespace) -> Config:
    """Read the config, and set what the options and the machine ask for; put our hooks and loops in."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if os.environ.get('RANK', '0') != '0':
        MMLogger.get_current_instance().setLevel(logging.ERROR)  # as mmengine has it once ranks know each other
    cfg = read_config(args.config, args.cfg_options)
    object.__setattr__(cfg, GIVEN, _changeable(cfg))  # mmengine takes a plain assignment for a setting
    cfg.launcher = args.launcher
    cfg.work_dir = os.path.expanduser(args.work_dir or cfg.get('work_dir') or default_work_dir(args.config))
    if is_sharded(cfg):
        check_sharded(cfg)
    check_launcher(args.launcher)
    require_writable(Path(cfg.work_dir))
    for _, node in walk_dicts([cfg.get(name) for name in (*BUILDERS.values(), 'test_cfg')]):
        _limit_workers(node)
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        distribute_on_cpu(cfg)
    if cfg.get('default_scope') in ('mmpretrain', 'mmcls'):
        _complete_dataloaders(cfg)
    # A config that a run has written may have one, for the checkpoint that this run began from.
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if type_name(hook['type']) != 'ExactCheckpointHook']
    _put_ours(cfg, 'checkpoint', CheckpointHook, 'coma_mm.WholeCheckpointHook')
    _put_ours(cfg, 'timer', IterTimerHook, 'coma_mm.LoadTimerHook')
    _put_ours(cfg, 'param_scheduler', ParamSchedulerHook, 'coma_mm.ScheduleHook')
    _put_our_loop(cfg)
    for name in ('EpochSeed', 'RunState', 'CheckData', 'DataTime', 'BackboneSettings', 'SpareRun'):
        _add_hook(cfg, f'coma_mm.{name}Hook')
    if any(find_steps([cfg.get(name) for name in BUILDERS.values()], ('ClassFolder', 'LabelledFolder'))):
        _add_hook(cfg, 'coma_mm.CheckClassesHook')  # labels have to be those of the checkpoint
    _add_hook(cfg, 'coma_mm.StepCheckpointHook', minutes=getattr(args, 'save_minutes', 0))
    add_loggers(cfg, args)
    return cfg


def build_runner(cfg: Config) -> Runner | FlexibleRunner:
    """Build the runner that the config asks for; checkpoints it loads are read without running code from them."""
    import_toolbox(cfg.get('default_scope'))
    require_no_other(cfg.work_dir, 'choose another --work-dir')  # a test lists its config there, too
    read_checkpoints_safely()
    write_files_whole()
    check_training(cfg)
    if cfg.get('load_from'):
        require_matching_checkpoint(cfg, None if cfg.get('resume') else cfg.get('load_partial', False))
    _add_hook(cfg, 'coma_mm.ConfigHook')
    if cfg.get('resume'):
        load_listings(cfg.work_dir)  # before folders are walked through
    with _without_config_files():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if isinstance(runner.model, nn.Module):  # FlexibleRunner builds it later
        check_channels(unwrap(runner.model))
        check_modules(unwrap(runner.model), cfg.get('optim_wrapper') or {})
    _count_accumulated(runner)
    if added := _name_additions(cfg):
        runner.logger.info(f'{ADDED}{added}; docs/reliability.md says why')
    return runner


def build_quietly(cfg: Config, level: int = logging.INFO) -> Runner | FlexibleRunner:
    """Build a runner whose config, hooks and pipelines go to its log file alone; the screen then gets ``level``."""
    said = io.StringIO()
    with redirect_stdout(said):
        runner = build_runner(cfg)
    for handler in runner.logger.handlers:
        if getattr(handler, 'stream', None) is said:
            handler.setStream(_Screen())
            handler.addFilter(lambda record: not any(notice in record.getMessage() for notice in NOTICES))
            if handler.level < level:  # ranks but the first are quieter anyway
                handler.setLevel(level)
    return runner


class _Screen:
    """Whatever ``sys.stdout`` is at the time: a progress bar takes its place, and prints above itself."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@contextmanager
def _without_config_files() -> Iterator[None]:
    """Keep runners from writing their config while they are built; ``coma_mm.ConfigHook`` does so later."""
    before = {kind: kind.dump_config for kind in (Runner, FlexibleRunner)}
    try:
        for kind in before:
            kind.dump_config = lambda runner: None
        yield
    finally:
        for kind, method in before.items():
            kind.dump_config = method


def require_matching_checkpoint(cfg: Config, partial: bool | Sequence[str] | None = None) -> None:
    """Add the hook that refuses a checkpoint that does not fit, ``ExactCheckpointHook``; FSDP's strategy does so."""
    if not is_sharded(cfg):
        _add_hook(cfg, 'coma_mm.ExactCheckpointHook', partial=partial)


def enable_mixed_precision(cfg: Config) -> None:
    """Turn mixed precision on (``--amp``) in each wrapper of an optimizer; refuse wrappers that cannot have it."""
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        raise ValueError(f'{cfg.filename} has no optim_wrapper, so there is nothing to train in mixed precision')
    several = 'optimizer' not in wrapper and [part for part in wrapper.values() if 'optimizer' in (part or ())]
    for part in several or [wrapper]:
        kind = type_name(part.get('type', 'OptimWrapper'))
        if kind == 'AutocastOptimWrapper':
            part.cpu = True
        elif kind == 'OptimWrapper' and not torch.cuda.is_available():
            raise ValueError(
                f'--amp trains in fp16 with this config, which needs a GPU; {cfg.filename} trains in bf16 on '
                'CPUs with --cfg-options optim_wrapper.type=coma_mm.AutocastOptimWrapper --amp'
            )
        elif kind == 'OptimWrapper':
            part.update(type='AmpOptimWrapper', loss_scale='dynamic', **dict(use_fsdp=True) if is_sharded(cfg) else {})
        elif kind != 'AmpOptimWrapper':
            raise ValueError(
                f'--amp knows OptimWrapper, AmpOptimWrapper and coma_mm.AutocastOptimWrapper, '
                f'not optim_wrapper.type={kind!r}'
            )


def prepare_resuming(cfg: Config, required: bool = False) -> None:
    """Find the checkpoint to go on from, or refuse the one that is named; remove initial weights from the config.

    Their files may be gone, and the checkpoint replaces them anyway.

    Args:
        cfg: Has ``resume=True``; without a checkpoint in the run's folder it starts from the beginning.
        required: Whether there has to be a checkpoint.
    """
    if not cfg.get('load_from'):
        folder = checkpoint_folder(cfg)
        found = newest_whole_checkpoint(folder)
        if found is None and required:
            raise ValueError(f'there is no whole checkpoint in {folder} to resume; leave --resume out to start anew')
        cfg.resume, cfg.load_from = found is not None, found and str(found)
    if str(cfg.load_from).endswith('.safetensors'):
        raise ValueError(
            f'{cfg.load_from} holds weights alone, and no run goes on from them; {START.format(source=cfg.load_from)}'
        )
    path = Path(str(cfg.load_from))
    if cfg.resume and path.name in read_manifest(path.parent) and not is_whole(path):
        raise ValueError(
            f'{short_path(path)} is damaged: it is not what was written, by its SHA-256 in {MANIFEST}; go on '
            'from another one, or with --resume alone from the newest that is whole (a change of your own: copy it to '
            'another folder and name that)'
        )
    if cfg.resume:
        for place, node in walk_dicts(cfg.model):
            if 'evaluation' not in place.split('.'):  # a teacher is in no checkpoint
                node.pop('init_cfg', None)
        cfg.model.pop('pretrained', None)


def _changeable(cfg: Config) -> dict[str, Any]:
    """Return the settings that tools may change, by place: types of hooks and of the training loop, and loaders."""
    nodes = {name: cfg.get(name) for name in ('default_hooks', 'custom_hooks', 'train_cfg')}
    loaders = {name: cfg.get(name) for name in BUILDERS.values()}
    types = {
        place: type_name(node['type']) for place, node in walk_dicts(nodes) if 'type' in node and place.count('.') < 2
    }
    return types | {place: node for place, node in walk(loaders) if not isinstance(node, (dict, list, tuple))}


def _name_additions(cfg: Config) -> str:
    """Name what differs from the config as it was read; empty for a config that :func:`prepare` has not made ready."""
    now = _changeable(cfg)
    given = vars(cfg).get(GIVEN, now)
    said = []
    for place, value in now.items():
        before = given.get(place)
        if value is not before and str(value) != str(before):
            setting = place.partition('_dataloader.')[2]
            said.append(f'{setting}={value}' if setting else f'{value} for {before}' if before else value)
    return ', '.join(dict.fromkeys(said))  # loaders have the same settings


def _put_ours(cfg: Config, name: str, theirs: type, ours: str) -> None:
    """Replace a default hook of mmengine by ours."""
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get(name, dict(type=theirs))
    if hook and _is_type(hook['type'], theirs):
        cfg.default_hooks = ConfigDict({**hooks, name: {**hook, 'type': ours}})


def _is_type(kind: object, theirs: type) -> bool:
    """Say whether a type of a config is this class of mmengine's."""
    return kind in (theirs, theirs.__name__, f'mmengine.{theirs.__name__}')


def _put_our_loop(cfg: Config) -> None:
    """Replace mmengine's training loop by ours, which can start within an epoch."""
    loop = cfg.get('train_cfg') or {}
    kind = loop.get('type') or ('EpochBasedTrainLoop' if loop.get('by_epoch', True) else 'IterBasedTrainLoop')
    rest = {key: value for key, value in loop.items() if key not in ('type', 'by_epoch')}
    for theirs, ours in ((EpochBasedTrainLoop, 'coma_mm.EpochLoop'), (IterBasedTrainLoop, 'coma_mm.IterLoop')):
        if loop and _is_type(kind, theirs):
            cfg.train_cfg = ConfigDict(type=ours, **rest)


def _limit_workers(node: dict) -> None:
    """Limit workers to the number of cores; remove options of workers where there are none, as torch refuses them."""
    if isinstance(node.get('num_workers'), int):
        node['num_workers'] = min(node['num_workers'], count_cores())
    if node.get('num_workers') == 0:
        node.pop('prefetch_factor', None)
        node.pop('multiprocessing_context', None)
        if node.get('persistent_workers'):
            node['persistent_workers'] = False


def _count_accumulated(runner: Runner | FlexibleRunner) -> None:
    """Scale the learning rate to the images of a step: mmengine counts those of one batch under accumulation."""
    count = (runner.cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    scaling = getattr(runner, '_auto_scale_lr', None) or getattr(runner, 'auto_scale_lr', None)
    if count > 1 and scaling and scaling.get('enable'):
        runner.logger.info(
            f'A step accumulates {count} batches, so the learning rate is meant for '
            f'{scaling["base_batch_size"]} / {count} images in each'
        )
        scaling['base_batch_size'] /= count


def put_hook(cfg: Config, kind: str, **arguments: Any) -> None:
    """Add a hook in the place of those of its type, which a config that a run has written may have."""
    others = [hook for hook in cfg.get('custom_hooks') or [] if type_name(hook['type']) != type_name(kind)]
    cfg.custom_hooks = [*others, dict(type=kind, **arguments)]


def _add_hook(cfg: Config, kind: str, **arguments: Any) -> None:
    """Add a hook, or set those arguments of the config's own that are asked for."""
    own = [hook for hook in cfg.get('custom_hooks') or [] if type_name(hook['type']) == type_name(kind)]
    for hook in own:
        hook.update({name: value for name, value in arguments.items() if value})
    if not own:
        put_hook(cfg, kind, **arguments)


def _complete_dataloaders(cfg: Config) -> None:
    """Set the options of loaders that mmpretrain's configs leave to its tools, such as ``default_collate``."""
    for name in BUILDERS.values():
        if loader := cfg.get(name):
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
            loader.setdefault('collate_fn', ConfigDict(type='default_collate'))
