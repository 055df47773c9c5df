"""Whatever a resumed checkpoint names, and wherever links lead: only files of the run's own folder are removed."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook

from coma_mm.engine import WholeCheckpointHook

BEST = dict(save_best='loss', rule='less')


@pytest.fixture
def precious(tmp_path):
    """Files outside of the work dir, under names that a run would use."""
    for folder in ('precious/epoch_7.pth', 'precious/epoch_8.pth'):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / 'rank0.pth').write_text('of another run')
    for file in ('precious/best_loss_epoch_1.pth', 'precious/epoch_9.pth'):
        (tmp_path / file).write_text('of another run')
    before = sorted((tmp_path / 'precious').rglob('*'))
    yield tmp_path / 'precious'
    assert sorted((tmp_path / 'precious').rglob('*')) == before


def tell(runner, **info):
    """Make the run believe what a checkpoint says."""
    runner.message_hub.load_state_dict(
        dict(log_scalars={}, runtime_info=info, resumed_keys=dict.fromkeys(info, True))
    )  # fmt: skip


def test_best_checkpoint(start, precious):
    runner = start(**BEST)
    Path('work').mkdir(exist_ok=True)
    for name in ('work/config.py', 'work/epoch_1.pth'):
        Path(name).write_text('mine')
    Path('work/inside').symlink_to(precious)
    for path in (
        f'{precious}/best_loss_epoch_1.pth',
        f'{precious}/epoch_7.pth',
        str(precious),
        'precious/best_loss_epoch_1.pth',
        'work/../precious/best_loss_epoch_1.pth',
        '..',
        '/',
        '',
        'work/config.py',
        'work/epoch_1.pth',
        'work/inside',
        'work/inside/best_loss_epoch_1.pth',
        [f'{precious}/epoch_9.pth'],
        5,
    ):
        tell(runner, best_ckpt=path, best_score=10.0, last_ckpt=path)
        hook = WholeCheckpointHook(**BEST)
        hook.before_train(runner)
        assert hook.best_ckpt_path is None, path
        hook._save_best_checkpoint(runner, dict(loss=1.0))
        assert Path('work/config.py').read_text() == Path('work/epoch_1.pth').read_text() == 'mine'
        assert Path('work/inside').is_symlink()
        for saved in Path('work').glob('best_*'):
            saved.unlink()


def test_checkpoints_to_keep(start, precious):
    """The run's own go by number; a link to another run's file or folder stays, and so does what it leads to."""
    runner = start()
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)  # as it is when a run trains
    for out_dir in None, 'elsewhere':
        folder = Path(out_dir or '.', 'work')
        folder.mkdir(parents=True, exist_ok=True)
        for ids in (
            ['../precious/epoch_9', '../precious/epoch_7'],
            [f'{precious}/epoch_9'],
            [True, 1.5, None, {}],
            [-1, 10**30],
            [7, 8, 9],
        ):
            for number in (7, 8, 9):
                (folder / f'epoch_{number}.pth').unlink(missing_ok=True)
                (folder / f'epoch_{number}.pth').symlink_to(precious / f'epoch_{number}.pth')
            tell(runner, keep_ckpt_ids=ids)
            hook = WholeCheckpointHook(max_keep_ckpts=1, out_dir=out_dir)
            hook.before_train(runner)
            assert all(type(step) is int for step in hook.keep_ckpt_ids)
            hook._save_checkpoint_with_step(runner, 2, {})
            assert len(list(folder.glob('epoch_[789].pth'))) == 3 and (folder / 'epoch_2.pth').is_file()
        hook._save_checkpoint_with_step(runner, 3, {})
        assert not (folder / 'epoch_2.pth').exists() and (folder / 'epoch_3.pth').is_file()


def test_a_run_that_is_resumed_elsewhere_leaves_what_was_there(start, precious):
    start(**BEST).train()
    content = torch.load('work/epoch_1.pth', weights_only=False)
    Path('work/best_loss_epoch_1.pth').write_text('the best of A')
    info = dict(best_ckpt=str(Path('work/best_loss_epoch_1.pth').absolute()), best_score=10.0)
    content['message_hub']['runtime_info'].update(info, keep_ckpt_ids=['../precious/epoch_9', 1])
    content['message_hub']['resumed_keys'].update(best_ckpt=True, best_score=True, keep_ckpt_ids=True)
    torch.save(content, 'work/epoch_1.pth')
    Path('work/manifest.json').unlink()  # or the change would be noticed

    runner = start('work/epoch_1.pth', epochs=2, work_dir='other', max_keep_ckpts=1, **BEST)
    runner.load_or_resume()
    runner.call_hook('before_train')
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert hook.best_ckpt_path is None and list(hook.keep_ckpt_ids) == [1]
    hook._save_best_checkpoint(runner, dict(loss=1.0))
    hook._save_checkpoint_with_step(runner, 2, {})
    assert sorted(path.name for path in Path('work').glob('*.pth')) == ['best_loss_epoch_1.pth', 'epoch_1.pth']
    assert Path('work/best_loss_epoch_1.pth').read_text() == 'the best of A'
