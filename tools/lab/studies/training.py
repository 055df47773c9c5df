"""Training of cells by the ordinary Runner, resumable at the end of every epoch, and the cost of a step."""

import time
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.utils import set_random_seed
from torch import nn

from coma_mm.datasets.seeding import fixed_seed
from coma_mm.engine import load_exactly
from coma_mm.engine.runner.build import build_runner, prepare, prepare_resuming
from coma_mm.engine.runner.run_length import fit_schedule, run_length
from coma_mm.evaluation.flops import count_flops
from coma_mm.models import read_checkpoint
from coma_mm.trial import make_step
from coma_mm.utils.files import atomic_write, write_whole

from . import branches  # noqa: F401 - configs name them
from .grid import Cell
from .hook import StudyHook
from .mask_token_encoder import MaskTokenEncoder  # noqa: F401 - configs name it


def read_config(config: str, options: dict, work_dir: Path, seed: int, epochs: int | None = None) -> Config:
    """Read a config as ``tools/train.py --resume`` does, with a seed and a schedule of its own."""
    options = deepcopy(options)  # mmengine writes into them
    cfg = prepare(Namespace(config=config, cfg_options=options, work_dir=str(work_dir), launcher='none', local_rank=0))
    cfg.randomness = dict(seed=seed)
    cfg.experiment_name = f'{work_dir}-{time.time_ns()}'  # mmengine keeps what it knows of a run under this name
    cfg.resume = True
    if epochs is not None:
        before = run_length(cfg)
        cfg.train_cfg.max_epochs = epochs
        fit_schedule(cfg, before)
    prepare_resuming(cfg)
    return cfg


def train_cell(cell: Cell) -> dict:
    """Train a cell, or go on, and return what it cost."""
    work_dir = cell.work_dir / 'train'
    options = dict(cell.options)
    if cell.start:
        weights = dict(_delete_=True, type='coma_mm.Pretrained', checkpoint=checkpoint_of(cell.start))
        options['model.backbone.init_cfg'] = weights
    assert cell.config is not None  # there is nothing to train otherwise
    cfg = read_config(cell.config, options, work_dir, cell.seed, cell.epochs)
    batch = cfg.train_dataloader.batch_size
    cfg.custom_hooks.append(dict(type='coma_mm.StudyHook', batch_size=batch, held_out=_held_out(cfg)))
    if cell.epochs == 0:
        return _save_random_weights(cfg, batch)
    flops = count_step(cfg)
    runner = build_runner(cfg)
    runner.train()
    _remove_checkpoints(work_dir, keep=find_latest(work_dir))
    state = runner.message_hub.get_info('study')
    images = runner.max_iters * batch
    for point in state['curve']:
        point['gflops'] = round(point['images'] * flops / 1e9, 1)
    return dict(
        images=images,
        gflops=round(images * flops / 1e9, 1),
        gflops_per_image=round(flops / 1e9, 5),
        seconds=round(state['seconds'], 1),
        load=state['load'],
        shared=state['load'] > torch.get_num_threads() + 0.5,
        curve=state['curve'],
        qualities=describe_losses(state['losses']) | describe_ranks(state['curve']),
    )


def _held_out(cfg: Config) -> dict | None:
    return dict(dataset=cfg.held_out.to_dict(), images=1000) if 'held_out' in cfg else None


def _save_random_weights(cfg: Config, batch: int) -> dict:
    init_default_scope(cfg.default_scope)
    set_random_seed(cfg.randomness.seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    folder = Path(cfg.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / 'random.pth') as unfinished:
        torch.save(dict(state_dict=model.state_dict()), unfinished)
    write_whole(folder / 'last_checkpoint', str(folder / 'random.pth'))
    cfg.dump(folder / 'config.py')
    hook = StudyHook(batch, _held_out(cfg))
    curve = [dict(images=0, seconds=0.0, **hook.held_out.measure(model), gflops=0.0)] if hook.held_out else []
    return dict(images=0, gflops=0.0, seconds=0.0, shared=False, curve=curve)


def describe_losses(losses: list[float], window: int = 50) -> dict:
    """Return how restless a training loss was.

    A spike is a step whose loss lies far above the median of the ``window`` steps before it: by more than six times
    their mean absolute deviation from it.
    """
    values = torch.tensor(losses)
    found = dict(last_training_loss=round(values[-window:].mean().item(), 5))
    if len(values) > window:
        before = values.unfold(0, window, 1)[:-1]
        middle = before.median(1).values
        deviation = (before - middle[:, None]).abs().mean(1)
        excess = values[window:] - middle
        found['spikes'] = int((excess > 6 * deviation).sum())
        found['largest_spike'] = round((excess / middle).max().item(), 4)
    return found


def describe_ranks(curve: list[dict]) -> dict:
    """Return RankMe before the first step, and the least of all measurements on the way."""
    ranks = [point['rankme'] for point in curve if 'rankme' in point]
    return dict(rankme_start=round(ranks[0], 2), rankme_least=round(min(ranks), 2)) if ranks else {}


def count_step(cfg: Config) -> float:
    """Return the operations per image of a step, forward and backward, evaluation branch included."""
    with fixed_seed(0):
        return count_flops(make_step(cfg, 2)[1]) / 2


def find_latest(work_dir: Path) -> str:
    """Return the last checkpoint in a folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = find_latest_checkpoint(str(work_dir))
    # as it was written, relative to the current directory, or beside the note that names it after a move
    path = path and next((p for p in (Path(path), work_dir / Path(path).name) if p.is_file()), None)
    if not path:
        raise FileNotFoundError(f'there is no checkpoint in {work_dir}')
    return str(path)


def checkpoint_of(work_dir: str) -> str:
    """Return the last checkpoint of a cell that has been trained.

    Raises:
        ValueError: If it has not.
    """
    try:
        return find_latest(Path(work_dir) / 'train')
    except FileNotFoundError:
        raise ValueError(f'{Path(work_dir).name} has to be trained first, but there is no checkpoint of it') from None


def load_trained(cell: Cell) -> tuple[Config, nn.Module]:
    """Return the config of a trained cell and its model, in eval mode, on the GPU if there is one."""
    folder = cell.work_dir / 'train'
    cfg = Config.fromfile(next(folder.glob('*.py')))
    init_default_scope(cfg.default_scope)
    cfg.model.pop('compile', None)
    model = MODELS.build(cfg.model)
    load_exactly(model, read_checkpoint(find_latest(folder)))
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    model.eval()  # on a line of its own: mmpretrain's backbones return nothing
    return cfg, model


def train_beside(cell: Cell, name: str, config: str, options: dict, epochs: int | None = None) -> dict:
    """Train another config with a cell's weights in its options; return its validation's metrics."""
    work_dir = cell.work_dir / name
    cfg = read_config(config, options, work_dir, cell.seed, epochs)
    runner = build_runner(cfg)
    runner.train()
    metrics = runner.val()
    _remove_checkpoints(work_dir)
    return metrics


def _remove_checkpoints(folder: Path, keep: str = '') -> None:
    for path in folder.glob('*.pth'):
        if path.name != Path(keep).name:
            path.unlink()
