"""Runs in this process, begun as ``tools/train.py`` begins them, and how to read what they leave."""

import importlib.util
import json
import uuid
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from coma_mm.engine.runner.build import build_runner, prepare, prepare_resuming

TINY = Path(__file__).parent / 'tools/tiny_coma.py'


def stock(package, config):
    """Return a config that comes with a toolbox."""
    return Path(importlib.util.find_spec(package).origin).parent / '.mim/configs' / config


def read(work_dir, options=None, resume=None, config=TINY, launcher='none', **arguments):
    """Return a config made ready for a run, which may go on from a checkpoint, or with ``True`` from the newest."""
    given = dict(config=str(config), work_dir=str(work_dir), cfg_options=deepcopy(options), resume=resume)
    cfg = prepare(Namespace(**given, launcher=launcher, local_rank=0, **arguments))
    cfg.experiment_name = uuid.uuid4().hex  # runs of one second would share loggers and message hub
    if resume:
        cfg.resume, cfg.load_from = True, None if resume is True else str(resume)
        prepare_resuming(cfg, required=resume is True)
    return cfg


def start(*args, **kwargs):
    """Return the runner of such a config."""
    return build_runner(read(*args, **kwargs))


def start_saving(resume=None, epochs=2, work_dir='work', **checkpoint):
    """Return the runner of the tiny config with our hooks alone, and settings of the hook that saves."""
    options = {'train_cfg.max_epochs': epochs, 'custom_hooks': [dict(type='coma_mm.EpochSeedHook')]}
    cfg = read(work_dir, options, resume)
    cfg.default_hooks.checkpoint.update(checkpoint)  # also the best one, though nothing is validated here
    return build_runner(cfg)


def masked_photos(*names):
    """Return the config of a data set of whole photos with masks."""
    mask = dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16)
    pipeline = [dict(type='Resize', scale=(48, 48)), mask, dict(type='PackInputs')]
    return dict(type='coma_mm.Photos', names=[*names], pipeline=pipeline)


def save_tiny(path, **meta):
    """Write a checkpoint of the tiny model; return the model."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(TINY).model)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model.eval()


def train_by_mmengine(work_dir, *hooks, **options):
    """Train the tiny config without our tools and with some hooks, its own by name; return what is logged."""
    cfg = Config.fromfile(TINY)
    own = {hook.type: hook for hook in cfg.custom_hooks}
    cfg.merge_from_dict(options)
    cfg.custom_hooks = [hook if isinstance(hook, dict) else own[f'coma_mm.{hook}'] for hook in hooks]
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    Runner.from_cfg(cfg).train()
    return read_logs(work_dir)


def read_log(runner):
    (path,) = Path(runner.log_dir).glob('*.log')
    return path.read_text()


def read_logs(work_dir):
    """Return the text that all starts of a run have logged."""
    return ''.join(path.read_text() for path in sorted(Path(work_dir).glob('*/*.log')))


def write_scalars(work_dir, start, lines):
    """Write lines of numbers, or of text, as a start of a run has logged them."""
    path = Path(work_dir, start, 'vis_data/scalars.json')
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{line if isinstance(line, str) else json.dumps(line)}\n' for line in lines))


def read_scalars(work_dir):
    """Return the lines of numbers that all starts of a run have logged."""
    return [json.loads(line) for path in Path(work_dir).glob('*/vis_data/scalars.json') for line in path.open()]


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def same(one, other):
    """Say whether two checkpoints have the same weights, to the bit."""
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
