"""A run goes on from what a run has written, or one line says what is wrong."""

from copy import deepcopy

import pytest
import torch

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
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3, _global_step=4)],
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


CASES = {
    **{
        f'{name} {value}': (put('meta', name, value=value), f'meta: {name} is ')
        for name in ('iter', 'epoch')
        for value in (-5, 2.5, True, '3', None, [], 2**60, float('nan'))
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
    'position': (put('meta', 'position', value=[]), 'meta: position.batch is None'),
    'batches': (put('meta', 'position', 'batches', value=0), 'meta: position.batches is 0'),
    'course': (put('meta', 'course', value=dict(iter=1)), 'meta: course.steps is None'),
    'budget': (put('meta', 'budget', value=[]), 'meta: budget.fitted is None'),
    'intervals': (put('meta', 'budget', value=dict(used=1, fitted=0)), 'meta: budget.fitted is 0'),
    'no weights': (drop('state_dict'), 'state_dict is None'),
    'optimizer of text': (put('optimizer', value='x'), 'optimizer is x'),
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
