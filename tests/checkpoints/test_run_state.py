"""A run goes on from what a run has written, or one line says what is wrong."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from coma_mm.checkpoints.run_state import check_end, check_moments, check_progress, check_run_state


def sound():
    """Return a checkpoint of a run."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    return dict(
        meta=dict(epoch=1, iter=3, cfg='', seed=5, position=dict(batch=0, batches=3, validated=True)),
        state_dict=dict(a=torch.ones(2)),
        message_hub=dict(
            log_scalars={'train/loss': HistoryBuffer([1.0], [1])},
            runtime_info=dict(epoch=0, iter=2, keep_ckpt_ids=[1], best_score=float('inf'), best_ckpt=None),
            resumed_keys={'train/loss': True},
        ),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3, _global_step=4, base_values=[0.1], best=float('inf'), verbose=False)],
    )


def put(*places, value):
    """Return a change of one place."""

    def change(checkpoint):
        for place in places[:-1]:
            checkpoint = checkpoint[place]
        checkpoint[places[-1]] = value

    return change


def drop(*places):
    def change(checkpoint):
        for place in places[:-1]:
            checkpoint = checkpoint[place]
        del checkpoint[places[-1]]

    return change


NAN = float('nan')
COURSE = dict(iter=2, steps=1, end=8, length=5)
CASES = {
    **{
        f'{name} {value}': (put('meta', name, value=value), f'meta: {name} is ')
        for name in ('iter', 'epoch')
        for value in (-5, 2.5, True, '3', None, [], 2**60, NAN)
    },
    'no iter': (drop('meta', 'iter'), 'meta: iter is None'),
    'no meta': (drop('meta'), 'has no meta'),
    'no optimizer': (drop('optimizer'), 'has no optimizer, and no run goes on without'),
    'no message hub': (drop('message_hub'), 'has no message_hub'),
    'weights alone': (
        lambda found: [found.pop(name) for name in ('optimizer', 'message_hub', 'meta')],
        'holds weights alone',
    ),
    'meta of text': (put('meta', value='x'), 'meta is x, not a dict'),
    'seed': (put('meta', 'seed', value=-1), 'meta: seed is -1'),
    'config': (put('meta', 'cfg', value=5), 'meta: cfg is 5, not text'),
    'position': (put('meta', 'position', value=[]), 'meta: position is a list'),
    'batch': (put('meta', 'position', 'batch', value=9), 'meta: position: batch is 9, not at most 3'),
    'batches': (put('meta', 'position', 'batches', value=0), 'meta: position: batches is 0'),
    'validated': (put('meta', 'position', 'validated', value='no'), 'validated is no'),
    'course': (put('meta', 'course', value=dict(iter=1)), 'not the course of a schedule'),
    'steps of a course': (put('meta', 'course', value=dict(COURSE, steps=-1)), 'meta: course: steps is -1'),
    'course of more': (put('meta', 'course', value=dict(COURSE, steps=9)), 'course: end is 8, not that of a run'),
    'course of later': (put('meta', 'course', value=dict(COURSE, iter=4)), 'meta: course: end is 8'),
    'budget': (put('meta', 'budget', value=[]), 'meta: budget is a list'),
    'time': (put('meta', 'budget', value=dict(used=NAN, fitted=1)), 'meta: budget: used is nan'),
    'intervals': (put('meta', 'budget', value=dict(used=1, fitted=0)), 'meta: budget: fitted is 0'),
    'no weights': (drop('state_dict'), 'state_dict is None'),
    'weights of numbers': (put('state_dict', 'a', value=5), 'state_dict: a is 5, not a tensor'),
    'averages': (put('ema_state_dict', value=[1]), 'ema_state_dict is a list'),
    'history': (put('message_hub', 'log_scalars', 'x', value=[1]), 'x is a list, not a log history'),
    'hub of lists': (put('message_hub', 'runtime_info', value=[]), 'runtime_info is a list'),
    'hub without a part': (drop('message_hub', 'resumed_keys'), 'resumed_keys is None'),
    'checkpoints kept': (put('message_hub', 'runtime_info', 'keep_ckpt_ids', value=5), 'keep_ckpt_ids is 5'),
    'best score': (put('message_hub', 'runtime_info', 'best_score', value='x'), 'best_score is x'),
    'best checkpoint': (put('message_hub', 'runtime_info', 'best_ckpt', value=[]), 'best_ckpt is a list'),
    'optimizer of text': (put('optimizer', value='x'), 'optimizer is x'),
    'optimizer of nothing': (put('optimizer', value={}), 'not the state of one'),
    'groups': (put('optimizer', 'param_groups', value=5), 'param_groups is 5'),
    'a group': (put('optimizer', 'param_groups', 0, value=5), 'a group of the optimizer is 5'),
    'rate': (put('optimizer', 'param_groups', 0, 'lr', value=NAN), 'lr of a group is nan'),
    'rate of text': (put('optimizer', 'param_groups', 0, 'lr', value='x'), 'lr of a group is x'),
    'parameters': (put('optimizer', 'param_groups', 0, 'params', value=['x']), 'params of a group is a list'),
    'moments': (put('optimizer', 'state', 0, value=5), 'is 5, not a dict'),
    'step': (put('optimizer', 'state', 0, 'step', value=-1), 'step is -1'),
    'schedulers': (put('param_schedulers', value=5), 'param_schedulers is 5'),
    'method of a scheduler': (put('param_schedulers', 0, 'step', value=5), 'a name in a scheduler is step'),
    'step of a scheduler': (put('param_schedulers', 0, 'last_step', value=10**15), 'last_step is'),
    'values of a scheduler': (put('param_schedulers', 0, 'base_values', value=[NAN]), 'not a list of numbers'),
}


@pytest.mark.parametrize('name', CASES)
def test_odd_content(name):
    change, words = CASES[name]
    checkpoint = deepcopy(sound())
    change(checkpoint)
    with pytest.raises(ValueError, match='start from its weights with --cfg-options load_from=x.pth') as error:
        check_run_state(checkpoint, 'x.pth')
    assert words in str(error.value) and '\n' not in str(error.value)


def test_what_runs_write():
    checkpoint = sound()
    check_run_state(checkpoint, 'x.pth')
    check_run_state(checkpoint | dict(optimizer=dict(a=checkpoint['optimizer']), param_schedulers=dict(a=[])), 'x.pth')
    # mmseg's metrics are numbers of NumPy.
    put('message_hub', 'runtime_info', 'best_score', value=np.float32(46.5))(checkpoint)
    put('optimizer', 'param_groups', 0, 'lr', value=np.float64(1e-3))(checkpoint)
    check_run_state(checkpoint, 'x.pth')
    groups = [dict(params=[torch.ones(2)])]
    check_moments(checkpoint['optimizer'], groups, 'x.pth')
    for wrong in ([dict(params=[torch.ones(3)])], [dict(params=[torch.ones(2)] * 2)]):
        with pytest.raises(ValueError, match='x.pth has .*start from its weights'):
            check_moments(checkpoint['optimizer'], wrong, 'x.pth')


def test_progress():
    for epoch, iteration, known in [(1, 3, True), (1, 6, True), (0, 0, True), (2, 2, False), (0, 2000, False)]:
        check_progress(dict(epoch=epoch, iter=iteration), 3, known, 'x.pth')
    check_progress(dict(epoch=0, iter=10**9), None, False, 'x.pth')
    for epoch, iteration, known in [(1, 2, True), (1, 7, True), (0, 10**10, False), (5, 0, False)]:
        with pytest.raises(ValueError, match='which do not belong together'):
            check_progress(dict(epoch=epoch, iter=iteration), 3, known, 'x.pth')
    check_end(3, 3, 'epochs', 'x.pth')
    with pytest.raises(ValueError, match=r'10000000000 iterations, more than the 8 .*train_cfg.max_iters=10000000001'):
        check_end(10**10, 8, 'iterations', 'x.pth')
