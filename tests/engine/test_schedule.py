"""Resumed runs have the learning rates and schedules of their config, at the place that the images seen give."""

import uuid
from copy import deepcopy

import pytest
import tiny_run
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from ranks import on_ranks
from tiny_run import read_log as log

WARM_COSINE = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=1, end=4, T_max=3, convert_to_iter_based=True),
]
MIXED = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='MultiStepLR', milestones=[1, 3]),
    dict(type='CosineAnnealingMomentum', by_epoch=False, eta_min=0.5),
]
POLY = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type='PolyLR', eta_min=1e-6, by_epoch=False, begin=2, end=8),
]
EVERY_ITERATION = {
    'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=8),
    'param_scheduler': POLY,
    'default_hooks.checkpoint.by_epoch': False,
    'train_dataloader.sampler.type': 'InfiniteSampler',
    'custom_hooks': [dict(type='LRHook')],
}


@HOOKS.register_module(force=True)
class LRHook(Hook):
    """Notes what each iteration trains with."""

    def before_train(self, runner):
        self.lrs, self.steps = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        wrapper = runner.optim_wrapper
        groups = [{key: value for key, value in group.items() if key != 'params'} for group in wrapper.param_groups]
        self.lrs.append(deepcopy(groups))
        if wrapper.should_sync():  # the last iteration of a step
            self.steps.append(groups[0]['lr'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The folder of all runs of this file."""
    return tmp_path_factory.mktemp('schedule')


@pytest.fixture
def start(folder, monkeypatch):
    """Build a run as train.py does, to be trained or to be resumed from a checkpoint."""
    monkeypatch.chdir(folder)

    def build(resume=None, launcher='none', **options):
        options = {
            'custom_hooks': [dict(type='coma_mm.EpochSeedHook'), dict(type='LRHook')],
            'model.backbone.drop_path_rate': 0.0,
            'optim_wrapper.constructor': 'coma_mm.LayerDecayOptimWrapperConstructor',
            'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.75),
            'train_cfg.max_epochs': 4,
            'param_scheduler': WARM_COSINE,
            **{name.replace('__', '.'): value for name, value in options.items()},
        }
        if 'train_cfg' in options:
            options.pop('train_cfg.max_epochs')
        return tiny_run.start(uuid.uuid4().hex, options, resume, launcher=launcher)

    return build


@pytest.fixture(scope='module')
def finished():
    """Runs without interruption by their options."""
    return {}


@pytest.fixture
def whole(start, finished):
    """Train a run, or take it from among those that others trained."""

    def get(**options):
        key = repr(options)
        if key not in finished:
            finished[key] = start(**options)
            finished[key].train()
        return finished[key]

    return get


def noted(runner):
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, LRHook))
    return hook


def train(runner):
    runner.train()
    return noted(runner)


def weights(runner):
    return torch.cat([parameter.detach().flatten() for parameter in runner.model.parameters()])


LONGER = {'train_cfg__max_epochs': 6, 'param_scheduler': [WARM_COSINE[0], dict(WARM_COSINE[1], end=6, T_max=5)]}


@pytest.mark.parametrize(
    ('first', 'then', 'said'),
    [
        ({}, {'optim_wrapper__optimizer__lr': 1e-4}, 'optim_wrapper.optimizer.lr 0.001 -> 0.0001'),
        ({}, LONGER, 'param_scheduler.1.T_max 3 -> 5, param_scheduler.1.end 4 -> 6, train_cfg.max_epochs 4 -> 6'),
        ({}, {'param_scheduler': MIXED}, 'param_scheduler [{'),
        ({'param_scheduler': MIXED}, {}, 'param_scheduler [{'),
        ({}, {'param_scheduler': None}, 'param_scheduler [{'),
        ({}, {'optim_wrapper__optimizer': dict(betas=(0.9, 0.9), weight_decay=0.2)}, 'weight_decay 0.05 -> 0.2'),
    ],
)
def test_what_the_config_says_now_holds_from_the_resume_on(start, whole, first, then, said):
    expected = noted(whole(**then)).lrs
    runner = start(f'{whole(**first).work_dir}/epoch_2.pth', **then)
    assert train(runner).lrs == expected[6:]  # two epochs of three iterations
    assert 'The config is not that of the checkpoint' in log(runner) and said in log(runner)
    states = runner.optim_wrapper.optimizer.state.values()
    assert {int(state['step']) for state in states} == {len(expected)}  # moments go on


def test_a_changed_run_is_resumed_in_its_turn(start, whole):
    changed = {'optim_wrapper__optimizer__lr': 1e-4}
    runner = start(f'{whole().work_dir}/epoch_2.pth', **changed)
    runner.train()
    again = start(f'{runner.work_dir}/epoch_3.pth', **changed)
    assert train(again).lrs == noted(runner).lrs[3:] and torch.equal(weights(again), weights(runner))
    assert 'not that of the checkpoint' not in log(again)


ONE_STEP = dict(WARM_COSINE[0], by_epoch=False, convert_to_iter_based=False)  # a warm-up that runs leave out


@pytest.mark.parametrize('options', [{}, {'param_scheduler': [ONE_STEP, WARM_COSINE[1]]}], ids=['plain', 'one step'])
def test_the_same_config_touches_nothing(start, whole, options):
    again = start(f'{whole(**options).work_dir}/epoch_2.pth', **options)
    full = whole(**options)
    assert train(again).lrs == noted(full).lrs[6:] and torch.equal(weights(again), weights(full))
    assert 'not that of the checkpoint' not in log(again)


PLAIN = {'optim_wrapper__constructor': 'DefaultOptimWrapperConstructor', 'optim_wrapper__paramwise_cfg': None}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'optim_wrapper__optimizer': dict(_delete_=True, type='SGD', lr=0.1)}, 'optimizer.type is SGD here and AdamW'),
        (PLAIN, r'1 groups of parameters here and \d+ in the checkpoint'),
    ],
)
def test_moments_of_another_optimizer_are_refused(start, whole, options, message):
    with pytest.raises(ValueError, match=f'{message}.* or start from its weights with '):
        start(f'{whole().work_dir}/epoch_2.pth', **options).train()


# ---- another number of ranks, another batch: ranks and batch are multiplied ----


def test_a_step_keeps_its_images_by_accumulation(start, whole):
    worker = {'train_dataloader__num_workers': 1}  # which draws crops and masks image by image
    full = whole(**worker)
    again = start(f'{full.work_dir}/epoch_2.pth', train_dataloader__batch_size=2, **worker)
    found = train(again)
    assert again.iter == 24 and len(found.lrs) == 12  # six iterations of two images in each epoch
    assert found.steps == noted(full).steps[6:]
    torch.testing.assert_close(weights(again), weights(full), atol=1e-4, rtol=0)
    said = log(again)
    assert 'The run had 1 x 4 images, 3 iterations an epoch, and has 1 x 2 images, 2 iterations a step' in said
    assert 'keeps its 4 images, with optim_wrapper.accumulative_counts=2; it goes on at iteration 12 of 24' in said
    # And back again, or once more: iterations of the schedule stay those of the run's beginning.
    for size, iterations in ((4, 12), (2, 24)):
        third = start(f'{again.work_dir}/epoch_3.pth', train_dataloader__batch_size=size, **worker)
        assert train(third).steps == noted(full).steps[9:] and third.iter == iterations
    assert torch.equal(weights(third), weights(again))


def go_on(rank, start, folder, checkpoint):
    runner = start(checkpoint, 'pytorch', train_dataloader__batch_size=1)
    steps = train(runner).steps
    if rank == 0:
        torch.save(dict(steps=steps, iter=runner.iter, log=log(runner)), folder / 'two.pth')


def test_one_rank_goes_on_as_two(start, whole, folder):
    full = whole()
    on_ranks(2, go_on, start, folder, f'{full.work_dir}/epoch_2.pth')
    found = torch.load(folder / 'two.pth')
    assert found['steps'] == noted(full).steps[6:] and found['iter'] == 24
    assert 'The run had 1 x 4 images, 3 iterations an epoch, and has 2 x 1 images, 2 iterations a step' in found['log']


@pytest.mark.parametrize(('batch', 'iterations'), [(12, 1), (5, 3), (3, 4)])
@pytest.mark.parametrize('schedule', [WARM_COSINE, MIXED])
def test_a_step_that_cannot_be_kept_is_named_and_the_schedule_ends_where_it_would(
    start, whole, schedule, batch, iterations
):
    options = {} if schedule is WARM_COSINE else {'param_scheduler': schedule}
    full = whole(**options)
    again = start(f'{full.work_dir}/epoch_2.pth', **options, train_dataloader__batch_size=batch)
    lrs = train(again).lrs
    assert len(lrs) == 2 * iterations
    for i, groups in enumerate(lrs):
        assert groups == noted(full).lrs[6 + i * 3 // iterations]
    assert f'a step has {batch} images instead of 4, at the rates of the config' in log(again)


@pytest.mark.parametrize(('batch', 'iterations', 'counts'), [(2, 10, 2), (8, 3, 1), (3, 7, 1)])
def test_iterations_of_the_config_are_those_of_the_runs_beginning(start, whole, batch, iterations, counts):
    """Five of eight iterations of four images, 20 images, are left, in a loop that counts iterations."""
    full = whole(**EVERY_ITERATION)
    again = start(f'{full.work_dir}/iter_3.pth', **EVERY_ITERATION, train_dataloader__batch_size=batch)
    found = train(again)
    assert len(found.lrs) == iterations and again.optim_wrapper._accumulative_counts == counts
    first = again.iter - iterations
    for i, groups in enumerate(found.lrs):
        assert groups == noted(full).lrs[(first + i) * batch // 4]
    assert 'count iterations of 4 images, as at the beginning of the run' in log(again)


def test_a_linearly_scaled_rate_is_that_of_the_step(start, whole):
    scaled = dict(auto_scale_lr__enable=True, param_scheduler=[WARM_COSINE[0], dict(WARM_COSINE[1], eta_min=0)])
    full = whole(**scaled)
    expected = noted(full).steps[6:]
    kept = start(f'{full.work_dir}/epoch_2.pth', train_dataloader__batch_size=2, **scaled)
    assert train(kept).steps == pytest.approx(expected, rel=1e-12)
    # Asked for now, the step becomes what the batch says, and the rate follows.
    asked = start(f'{whole().work_dir}/epoch_2.pth', train_dataloader__batch_size=2, **scaled)
    assert train(asked).steps[::2] == pytest.approx([lr / 2 for lr in expected], rel=1e-12)
    assert asked.optim_wrapper._accumulative_counts == 1
