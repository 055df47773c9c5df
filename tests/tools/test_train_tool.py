import json
import os
from subprocess import check_output, run

import pytest
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from processes import TINY, TOOLS, call, last_line, refuse

from coma_mm.utils.configs import type_name


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def logged(work_dir):
    """Return what the newest run logged of each step."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(line) for line in newest.open()]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder in which the tiny config was trained, with a relative path to it and the default work dir."""
    folder = tmp_path_factory.mktemp('train')
    printed = call(folder, 'train.py', os.path.relpath(TINY, folder))
    return folder, printed


def test_train(trained):
    folder, printed = trained
    work_dir = folder / 'work_dirs' / 'tiny_coma'
    names = {'epoch_1.pth', 'epoch_2.pth', 'reconstruction.png', 'tiny_coma.py'}
    assert {path.name for path in work_dir.glob('*.p*')} == names
    shown = [line.partition(' INFO - ')[2] for line in printed.splitlines() if 'loss' in line]
    assert [line.split()[:3] for line in shown] == [['step', '1', 'loss'], ['step', '6/6', 'loss']]
    meta = load(work_dir / 'epoch_2.pth')['meta']
    assert json.loads(meta['backbone'])['drop_path_rate'] == 0.2 and meta['scope'] == 'mmpretrain'
    assert last_line(printed).endswith(
        'picture: work_dirs/tiny_coma/reconstruction.png; '
        f'next: {min(os.path.relpath(TINY, folder), str(TINY), key=len)} work_dirs/tiny_coma/epoch_2.pth'
    )


def test_a_written_config_trains_elsewhere(trained):
    """It is an ordinary one: another run of it has its own options and its own files."""
    folder, _ = trained
    first = folder / 'work_dirs/tiny_coma'
    before = {path: path.read_bytes() for path in first.rglob('*') if path.is_file()}
    printed = call(folder, 'train.py', first / TINY.name, '--work-dir', 'second', '--save-minutes', '10')
    assert printed.count('step 1 ') == printed.count('12 images; ') == 1
    assert {path: path.read_bytes() for path in first.rglob('*') if path.is_file()} == before
    hooks = Config.fromfile(folder / 'second' / TINY.name).custom_hooks
    kinds = [type_name(hook.type) for hook in hooks]
    assert len(kinds) == len({*kinds}) and hooks[kinds.index('StepCheckpointHook')].minutes == 10


def test_dist_train_on_two_cpu_processes(trained, tmp_path):
    """Resumes the run of one process, in bf16, with the learning rate scaled to the batch, from a third directory."""
    folder, _ = trained
    options = ['--work-dir', 'out', '--resume', folder / 'work_dirs/tiny_coma/epoch_1.pth', '--amp', '--auto-scale-lr']
    printed = call(tmp_path, 'dist_train.sh', TINY, 2, *options, '--cfg-options', 'custom_hooks=[]')
    assert 'Scaling the original LR by 0.5' in printed
    assert 'UserWarning' not in printed and 'FutureWarning' not in printed
    assert load(tmp_path / 'out' / 'epoch_2.pth')['meta']['epoch'] == 2
    # Twelve images in batches of four: three iterations on one rank, two on two.
    assert 'The run had 1 x 4 images, 3 iterations an epoch, and has 2 x 4 images, 2 iterations an epoch' in printed
    steps = logged(tmp_path / 'out')
    assert [(line['epoch'], line['step']) for line in steps] == [(2, 3), (2, 4)]
    assert not (tmp_path / 'out' / 'epoch_1.pth').exists()


def test_broken_runs_say_so_last(tmp_path):
    options = ['--work-dir', 'out', '--cfg-options', 'optim_wrapper.optimizer.lr=1e35']
    printed = call(tmp_path, 'dist_train.sh', TINY, 2, *options, succeeds=False)
    # One of the processes says it, and torchrun adds a summary, which ends with it.
    reason = 'error: the loss became NaN or infinite at iteration 2'
    assert sum(line.startswith(reason) for line in printed.splitlines()) == 1
    assert reason in '\n'.join(printed.splitlines()[-4:])
    assert 'FloatingPointError' not in printed
    (log,) = (tmp_path / 'out').glob('*/*.log')
    assert 'Traceback' in log.read_text() and 'FloatingPointError: the loss became' in log.read_text()
    assert not list((tmp_path / 'out').glob('*.pth'))


def test_a_rate_that_cannot_be_scaled(monkeypatch, capfd, tmp_path):
    options = [TINY, '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None']
    assert 'auto_scale_lr = dict(base_batch_size=' in refuse(monkeypatch, capfd, tmp_path, 'train.py', *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('gpus', ['two', '0', '-1', '1.5'])
@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_count_gpus(monkeypatch, tmp_path, script, gpus):
    monkeypatch.setenv('GPUS', gpus)
    args = {'slurm_train.sh': ['gpu', 'job', TINY], 'dist_test.sh': [TINY, 'a.pth', gpus]}.get(script, [TINY, gpus])
    error = last_line(call(tmp_path, script, *args, succeeds=False))
    assert error.startswith('error: GPUS') and f'>= 1, got {gpus}' in error


def test_several_machines_need_an_address(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ('NODE_RANK', 'MASTER_ADDR', 'PORT')}
    env |= dict(NNODES='2', PYTHON='echo')

    def start(**more):
        command = [TOOLS / 'dist_train.sh', 'c.py', '2', '--amp']
        return run(command, env=env | more, capture_output=True, text=True, cwd=tmp_path)

    assert 'NNODES is 2, but NODE_RANK is not set: ' in start().stderr
    assert 'NNODES is 2, but MASTER_ADDR is not set: ' in start(NODE_RANK='1').stderr
    assert 'NNODES must be a whole number >= 1, got two' in start(NNODES='two').stderr
    started = start(NODE_RANK='1', MASTER_ADDR='10.0.0.1')
    assert started.stderr == 'waiting at 10.0.0.1:29500 for all 2 machines; this one has NODE_RANK=1\n'
    assert '--nnodes=2 --node_rank=1 --nproc_per_node=2 --master_addr=10.0.0.1 --master_port=29500' in started.stdout
    assert started.stdout.endswith('train.py c.py --launcher pytorch --amp\n')


@pytest.mark.parametrize(
    ('script', 'args'), [('dist_train.sh', ['config.py']), ('dist_test.sh', ['a', 'b']), ('slurm_train.sh', ['a', 'b'])]
)
def test_scripts_explain_themselves(tmp_path, script, args):
    printed = call(tmp_path, script, *args, succeeds=False)
    assert 'usage: ' in printed and 'CONFIG' in printed


def test_torchrun_waits_for_ranks_that_save(tmp_path):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\necho "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds"\n')
    python.chmod(0o755)
    env = dict(os.environ, PYTHON=str(python), PORT='29500')
    assert check_output([TOOLS / 'dist_train.sh', 'c.py', '2'], env=env) == b'120 seconds\n'


def test_slurm_train(tmp_path, monkeypatch):
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{srun.parent}:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '4')
    monkeypatch.setenv('SRUN_ARGS', '--time=1:00 --qos=low')
    printed = call(tmp_path, 'slurm_train.sh', 'gpu', 'my job', 'c.py', 'out dir', '--amp').splitlines()
    assert {'--partition=gpu', '--job-name=my job', '--gres=gpu:4', '--ntasks=4', '--qos=low'} <= set(printed)
    assert printed[-6:] == ['c.py', '--work-dir', 'out dir', '--launcher', 'slurm', '--amp']
    printed = call(tmp_path, 'slurm_train.sh', 'gpu', 'job', 'c.py', '--amp').splitlines()
    assert printed[-4:] == ['c.py', '--launcher', 'slurm', '--amp']
