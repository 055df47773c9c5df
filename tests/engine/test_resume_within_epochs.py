"""Checkpoints within an epoch resume at their step: loops, samplers, workers, data sets; one tiny model, real runs."""

import multiprocessing
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.config import Config
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, LOOPS
from mmengine.runner import ValLoop
from tiny_run import TINY, read_scalars, start
from torch.utils.data import DataLoader, IterableDataset

from coma_mm.datasets.seeding import seed_samples

SCHEDULE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='StepLR', step_size=1, gamma=0.5, by_epoch=True),
]


@LOOPS.register_module()
class CountedLoop(ValLoop):
    """A validation whose result is the epoch, so that the first is the best."""

    def run(self):
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        metrics = dict(loss=float(self.runner.epoch))
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


@HOOKS.register_module()
class WatchHook(Hook):
    """Notes what steps see: their number in the epoch, the images' sum and the hash of what the model draws."""

    seen: list = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        inputs = data_batch['inputs']
        self.seen.append((runner.epoch, runner.iter, batch_idx, float(torch.as_tensor(inputs).double().sum())))


@DATASETS.register_module()
class CountedPhotos(BaseDataset):
    """A data set of another toolbox: it knows nothing of seeds, and counts what is loaded of it."""

    loaded: list = []

    def load_data_list(self):
        return [dict(sample_idx=i) for i in range(10)]

    def prepare_data(self, idx):
        assert type(idx) is int
        self.loaded.append(idx)
        if idx == 3 and np.random.rand() < 0.5:
            return None  # mmengine draws another one
        return self.pipeline(dict(img=np.random.randint(0, 255, (60, 60, 3), dtype=np.uint8), img_path=str(idx)))


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train the tiny config, saving at every step; return what the steps saw and logged."""
    monkeypatch.chdir(tmp_path)

    def run(folder, resume=None, **options):
        hooks = [dict(type='EMAHook'), dict(type='WatchHook')]
        options = {
            'default_hooks.checkpoint': dict(type='CheckpointHook', by_epoch=False, interval=1),
            'default_hooks.runtime_info': dict(type='coma_mm.DeferredRuntimeInfoHook'),
            'param_scheduler': SCHEDULE,
            'custom_hooks': hooks,
            **options,
        }
        WatchHook.seen, CountedPhotos.loaded = [], []
        start(folder, options, resume).train()
        # What a line says of time differs; what it says of losses is the mean over a window of the steps before.
        lines = [{key: value for key, value in line.items() if 'time' not in key} for line in read_scalars(folder)]
        return WatchHook.seen, sorted(lines, key=lambda line: line['step'])

    return run


def same(one, other):
    """Compare weights, averages, optimiser and schedules of two checkpoints."""
    one, other = (torch.load(path, weights_only=False) for path in (one, other))
    for key in ('state_dict', 'ema_state_dict'):
        assert one[key].keys() == other[key].keys()
        assert all(torch.equal(value, other[key][name]) for name, value in one[key].items()), key
    for number, state in one['optimizer']['state'].items():
        states = other['optimizer']['state'][number]
        assert all(torch.equal(torch.as_tensor(value), states[name]) for name, value in state.items())
    assert one['param_schedulers'] == other['param_schedulers']
    return True


INFINITE = {
    'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=7),
    'train_dataloader.sampler': dict(_delete_=True, type='InfiniteSampler'),
}
TEACHER = dict(
    type='coma_mm.DyViT',
    arch='pico',
    img_size=32,
    patch_size=1,
    init_cfg=dict(type='coma_mm.Pretrained', checkpoint='coma_mm://dyvit-p_cifar10', prefix='backbone.'),
)
WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}
FOREIGN = {
    'train_dataloader.dataset': dict(
        _delete_=True,
        type='RepeatDataset',
        times=1,
        dataset=dict(type='CountedPhotos', pipeline=Config.fromfile(TINY).pipeline),
    )
}


@pytest.mark.parametrize(
    'options',
    [
        {'model.evaluation': dict(mode='align', momentum=0.1), 'model.predict_visible': 1.0},
        WORKERS | FOREIGN,
        {
            'train_dataloader.sampler': dict(_delete_=True, type='coma_mm.PartSampler', parts=2),
            'train_dataloader.batch_size': 2,
            'model.evaluation': dict(mode='frozen', encoder=TEACHER),
        },
        {'train_dataloader.sampler': dict(_delete_=True, type='RepeatAugSampler'), 'randomness': dict(seed=None)},
        INFINITE | {'train_dataloader.num_workers': 2},
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=7), 'randomness': dict(seed=None)},
    ],
    ids=['epochs', 'workers', 'parts', 'repeated', 'infinite', 'iterations'],
)
def test_every_step_resumes_to_the_bit(train, options):
    seen, lines = train('whole', **options)
    last = f'iter_{len(seen)}.pth'
    for step in (2, 3, 5):  # within an epoch, at its end, within the second
        again, logged = train(f'from-{step}', f'whole/iter_{step}.pth', **options)
        assert again == seen[step:]
        assert logged == lines[step:]
        assert same(f'whole/{last}', f'from-{step}/{last}')


@pytest.mark.parametrize('options', [{}, INFINITE], ids=['epochs', 'infinite'])
def test_what_was_served_is_not_loaded_again(train, options):
    options = FOREIGN | {'train_dataloader.batch_size': 2} | options
    seen, _ = train('whole', **options)
    loaded = list(CountedPhotos.loaded)
    again, _ = train('resumed', 'whole/iter_4.pth', **options)
    assert again == seen[4:]
    # One index may have been replaced by another one, drawn at random.
    assert loaded[-len(CountedPhotos.loaded) :] == CountedPhotos.loaded and len(loaded) > len(CountedPhotos.loaded) + 7


@pytest.mark.parametrize('persistent', [True, False])
def test_no_worker_outlives_a_run_that_breaks(train, monkeypatch, persistent):
    """Left to garbage collection, each would take 5 s to end."""

    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(WatchHook, 'after_train_iter', fail)
    workers = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': persistent}
    with pytest.raises(ZeroDivisionError):  # and its traceback, which keeps all that was at work
        train('broken', **workers)
    assert not multiprocessing.active_children()


def test_workers_change_nothing(train):
    assert train('none', **FOREIGN)[0] == train('two', **FOREIGN, **WORKERS)[0]


def test_samples_know_their_place_in_the_order_of_all_ranks():
    """Also with a batch sampler that groups the samples, which is asked for the names of those before, not for them."""

    class Sizes(BaseDataset):
        def load_data_list(self):
            return [dict(width=i % 3, height=1) for i in range(9)]

        def prepare_data(self, idx):
            return idx, np.random.rand()

    def serve(start, world_size, rank):
        dataset = Sizes()
        sampler = DefaultSampler(dataset, seed=1)
        sampler.rank, sampler.world_size, sampler.num_samples = rank, world_size, 9 // world_size
        loader = DataLoader(dataset, batch_sampler=AspectRatioBatchSampler(sampler, 2), collate_fn=list)
        batches = seed_samples(loader)
        assert seed_samples(loader) is batches  # once
        batches.rank, batches.world_size, batches.start = rank, world_size, start
        return list(loader)

    whole = serve(0, 1, 0)
    assert serve(3, 1, 0) == whole[3:]
    assert len({draw for batch in whole for _, draw in batch}) == 9

    dataset = Sizes()
    batches = seed_samples(DataLoader(dataset, batch_size=3, sampler=DefaultSampler(dataset, seed=1)))
    alone = [place for batch in batches for place in batch]
    for rank in range(3):
        dataset = Sizes()
        sampler = DefaultSampler(dataset, seed=1)
        sampler.rank, sampler.world_size, sampler.num_samples = rank, 3, 3
        batches = seed_samples(DataLoader(dataset, batch_size=1, sampler=sampler))
        batches.rank, batches.world_size = rank, 3
        assert [place for batch in batches for place in batch] == alone[rank::3]


def test_streams_know_no_places():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    assert seed_samples(DataLoader(Stream())) is None
    assert seed_samples(DataLoader(range(3))) is None


@HOOKS.register_module()
class CountValidationsHook(Hook):
    """Counts validations, and dies in one."""

    count, dies = 0, False

    def before_val_epoch(self, runner):
        type(self).count += 1
        if self.dies:
            raise KeyboardInterrupt


def test_a_validation_that_a_kill_has_cut_short_is_done_again(train, monkeypatch):
    loader = deepcopy(Config.fromfile(TINY).train_dataloader.to_dict())
    loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
    options = {
        'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, save_best='loss', rule='less'),
        'val_dataloader': loader,
        'val_cfg': dict(type='CountedLoop'),
        'val_evaluator': dict(type='mmpretrain.Accuracy'),
        'custom_hooks': [dict(type='EMAHook'), dict(type='WatchHook'), dict(type='CountValidationsHook')],
    }
    monkeypatch.setattr(CountValidationsHook, 'dies', True)
    with pytest.raises(KeyboardInterrupt):
        train('killed', **options)
    monkeypatch.setattr(CountValidationsHook, 'dies', False)
    monkeypatch.setattr(CountValidationsHook, 'count', 0)
    train('killed', 'killed/epoch_1.pth', **options)
    assert CountValidationsHook.count == 2
    assert [path.name for path in Path('killed').glob('best*')] == ['best_loss_epoch_1.pth']
    # After the best checkpoint the one of the epoch is saved again: that validation was done, and was the best.
    saved = torch.load('killed/epoch_1.pth', weights_only=False)['message_hub']['runtime_info']
    assert saved['best_ckpt'].endswith('killed/best_loss_epoch_1.pth') and 'best_score' in saved
    train('again', 'killed/epoch_1.pth', **options)
    assert CountValidationsHook.count == 3
    # Nor is one done again that was not the best, of the last epoch.
    train('killed', 'killed/epoch_2.pth', **options, **{'train_cfg.max_epochs': 3})
    assert CountValidationsHook.count == 4
