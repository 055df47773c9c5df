"""`make check-gpu` on the CPU, so that it works on the day it is needed. ``--device cuda`` for the day."""

import json
import sys

import check_gpu
import pytest
import torch
from mmengine.registry import init_default_scope

# What the CPU has not; a GPU has all of it, but mmcv may lack its ops there.
LEFT_OUT = {'cpu': ['step in fp16'], 'cuda': ['RoIAlign and deformable convolution']}


# What takes longest on a CPU; other tests resume sharded runs and compile blocks there.
SLOW = ('SyncBN, DDP, FSDP', 'step, compiled', 'peak memory')


@pytest.mark.gpu
@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in check_gpu.CHECKS]
)
def test_check(name, device, tmp_path):
    init_default_scope('mmpretrain')
    try:
        assert check_gpu.CHECKS[name](device, tmp_path)
    except check_gpu.LeftOutError:
        assert name in LEFT_OUT[device]


def test_checks_fail(monkeypatch):
    """A check that cannot fail is none: losses that are wrong or do not fall, values read, runs apart."""
    with pytest.raises(AssertionError, match='the first loss is 2.0000, and 1.0000 in fp32'):
        check_gpu.compare([2.0, 1.0], [1.0, 0.5], 0.02)
    with pytest.raises(AssertionError, match='the loss does not fall'):
        check_gpu.compare([1.0, 1.0], [1.0, 0.5], 0.02)
    loss = check_gpu.CoMA.loss
    monkeypatch.setattr(check_gpu.CoMA, 'loss', lambda self, *args, **batch: _read(loss(self, *args, **batch)))
    with pytest.raises(AssertionError, match='read values of the device: .*_local_scalar_dense'):
        check_gpu.check_synchronisation('cpu', None)


def _read(losses):
    losses['loss_adaptive'].item()
    return losses


def run_main(monkeypatch, folder, *options):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(sys, 'argv', ['check_gpu.py', *map(str, options)])
    check_gpu.main()


def test_page_and_json(monkeypatch, capfd, tmp_path):
    options = ['--checks', 'step in fp16', 'resume', '--suites', 'forward', '--only', 'DyViT-T']
    run_main(monkeypatch, tmp_path, '--device', 'cpu', *options, '--batch', 1, '--rounds', 1)
    results = json.loads((tmp_path / 'work_dirs/check_gpu/gpu.json').read_text())
    assert list(results['tables']['forward']['rows']) == ['DyViT-T'] and results['benchmark'] == 'passed'
    verdicts = {name: result['verdict'] for name, result in results['checks'].items()}
    assert verdicts == {'step in fp16': 'left out', 'resume': 'passed'}
    page = (tmp_path / 'work_dirs/check_gpu/gpu.txt').read_text()
    assert page in capfd.readouterr().out and len(page.splitlines()) < 60
    assert f'torch {torch.__version__}' in page and 'left out  mmengine has fp16 for GPUs only' in page
    assert 'forward, ms per image' in page


def test_failures_are_on_the_page_too(monkeypatch, tmp_path):
    def fail(device, scratch):
        raise AssertionError('this GPU is\nbroken')

    monkeypatch.setitem(check_gpu.CHECKS, 'resume', fail)
    with pytest.raises(SystemExit):
        run_main(monkeypatch, tmp_path, '--device', 'cpu', '--checks', 'resume', '--suites')
    assert 'FAILED    broken' in (tmp_path / 'work_dirs/check_gpu/gpu.txt').read_text()


def test_without_a_gpu_it_says_so(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    run_main(monkeypatch, tmp_path)
    printed = capfd.readouterr().out
    assert printed.strip() == 'no GPU here, so nothing was checked (--device cpu tries the checks themselves)'
    assert not list(tmp_path.iterdir())
