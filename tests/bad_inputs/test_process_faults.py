"""Faults of the process: signals, streams, limits. Each ends in one line, or does no harm; nothing unfinished stays."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import last_line
from torch.utils.data import DataLoader, Dataset

import coma_mm.pretraining
from coma_mm.cli import errors
from coma_mm.engine import RunInterrupted
from coma_mm.utils.workers import end_with_unsent, system_number

ROOT = Path(__file__).parents[2]
# A command that writes a file for a long time, and one that swallows the first exception, as callbacks of forks do.
WRITE = """
import sys, time
from coma_mm.cli import run
from coma_mm.utils.files import atomic_write
def wait():
    for _ in range(600):
        time.sleep(0.1)  # in parts: Python handles a signal that came just before a sleep when that ends
def main():
    with atomic_write('result.txt') as unfinished:
        unfinished.write_text('half')
        print('ready', flush=True)
        if 'swallow' in sys.argv:
            try:
                wait()
            except KeyboardInterrupt:
                pass
        wait()
run('write', main)
"""


def heed_signals():
    """Restore signals that this process may have been started to ignore, as by nohup, in a new one."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def begin(cwd, *command, **kwargs):
    """Start a process; it loads no torch, and takes a tenth of a second."""
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    kwargs.setdefault('preexec_fn', heed_signals)
    return subprocess.Popen([sys.executable, *command], cwd=cwd, env=env, stderr=subprocess.PIPE, text=True, **kwargs)


# ---- signals ----


@pytest.mark.parametrize('swallow', [(), ('swallow',)])
@pytest.mark.parametrize(
    'numbers',
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGUSR1],
        [signal.SIGINT, signal.SIGINT, signal.SIGTERM],
    ],
)
def test_a_signal_leaves_nothing_unfinished(tmp_path, numbers, swallow):
    process = begin(tmp_path, '-c', WRITE, *swallow, stdout=subprocess.PIPE)
    process.stdout.readline()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.01)
    _, printed = process.communicate(timeout=20)
    by = 'the keyboard' if numbers[0] == signal.SIGINT else numbers[0].name
    assert (process.returncode, printed) == (128 + numbers[0], f'stopped by {by}\n') and not os.listdir(tmp_path)


def test_nohup_is_respected(tmp_path):
    process = begin(tmp_path, '-c', WRITE, stdout=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, 1))
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == 'stopped by SIGTERM\n'


@pytest.mark.parametrize(
    ('end', 'checkpoint', 'code', 'line'),
    [
        (KeyboardInterrupt(), True, 130, "keyboard; to go on .*: coma-mm pretrain --out 'a b'"),
        (KeyboardInterrupt(), False, 130, 'keyboard before there was a checkpoint; the same command starts anew'),
        (RunInterrupted(signal.SIGTERM), True, 143, "SIGTERM; to go on .*: coma-mm pretrain --out 'a b'"),
    ],
)
def test_pretraining_names_its_folder(monkeypatch, tmp_path, capfd, end, checkpoint, code, line):
    def pretrain(**settings):
        if checkpoint:
            (tmp_path / 'a b').mkdir()
            torch.save(dict(state_dict={}, meta=dict(epoch=0, iter=1)), tmp_path / 'a b' / 'iter_1.pth')
        raise end

    monkeypatch.setattr(coma_mm.pretraining, 'pretrain', pretrain)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    monkeypatch.setattr(sys, 'argv', ['coma-mm', 'pretrain', 'images', '--out', 'a b', '--traceback'])
    with pytest.raises(SystemExit) as stop:
        coma_mm.cli.main()
    assert stop.value.code == code and re.search(line, last_line(capfd.readouterr().err))


# ---- streams and limits ----

FULL, GONE, HELP = 'error: cannot write to standard output: No space left', 'is gone: change to another one (cd)', ''
SHELL = [
    ('coma-mm --help >/dev/full', 1, FULL),
    ('coma-mm --help >&-', 0, HELP),
    ('coma-mm --help <&- >&- 2>&-', 0, HELP),
    ('coma-mm pretrain --help >/dev/full', 1, FULL),
    ('coma-mm pretrain --help | true', 0, HELP),
    ('coma-mm wrong 2>&-', 2, HELP),
    ('coma-mm wrong 2>/dev/full', 2, HELP),
    ('mkdir gone; cd gone; rmdir ../gone; coma-mm --help | head -1', 0, HELP),
    ('mkdir gone; cd gone; rmdir ../gone; coma-mm report x', 1, GONE),
    ("PYTHONIOENCODING=ascii coma-mm pretrain --out x --steps $'\\xff\\xc3\\xa9'", 2, 'got \\xff\\xe9'),
    ('ulimit -v 300000; coma-mm report .', 1, 'not enough memory'),
    ('ulimit -n 9; coma-mm pretrain --help >/dev/null', 0, HELP),
]


@pytest.mark.parametrize(('script', 'code', 'line'), SHELL)
def test_streams_and_limits(tmp_path, script, code, line):
    script = 'set -o pipefail; coma-mm() { "$PYTHON" -m coma_mm "$@"; }; ' + script
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHON=sys.executable)
    done = subprocess.run(['bash', '-c', script], cwd=tmp_path, env=env, capture_output=True, timeout=60)
    printed = done.stderr.decode()
    assert done.returncode == code and 'Traceback' not in printed, printed
    assert line in (last_line(printed) if printed else '') and (printed or not line)


# ---- what libraries say of limits ----


def chained():
    error = ImportError('Error importing numpy: you should not try')
    error.__cause__ = ImportError('libopenblas.so: failed to map segment from shared object')
    return error


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(errno.EMFILE, 'Too many open files'), 'ulimit -n 1024'),
        (RuntimeError('received 0 items of ancdata'), 'ulimit -n 1024'),
        (RuntimeError('unable to open shared memory object </torch_1> in read-write mode: x (24)'), 'ulimit -n 1024'),
        (RuntimeError('DataLoader worker (pid 7) exited unexpectedly with exit code 24. Details'), 'ulimit -n 1024'),
        (RuntimeError('DataLoader worker (pid 7) exited unexpectedly with exit code 28. Details'), 'shared memory is'),
        (RuntimeError('unable to write to file </torch_1>: No space left on device (28)'), 'lower --workers, or make'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. It'), 'raise its shared memory'),
        (BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable'), 'ulimit -u'),
        (RuntimeError("can't start new thread"), 'ulimit -u'),
        (MemoryError(), 'lower --batch-size, --size or --workers'),
        (RuntimeError('[enforce] DefaultCPUAllocator: not enough memory'), 'lower --batch-size, --size or --workers'),
        (RuntimeError('could not create a primitive'), 'lower --batch-size, --size or --workers'),
        (OSError(errno.ENOMEM, 'Cannot allocate memory'), 'lower --batch-size, --size or --workers'),
        (chained(), 'not enough memory to load a library (libopenblas.so: failed to map'),
        (RuntimeError('Could not determine home directory.'), 'by the variable HOME'),
        (FileNotFoundError(errno.ENOENT, 'No usable temporary directory found in [...]'), 'with room by TMPDIR'),
        (UnicodeEncodeError('utf-8', 'run\udcff', 3, 4, 'surrogates not allowed'), "'run\\\\xff' has a name in it"),
        (OSError(errno.ENOSPC, 'No space left on device', 'a.pth'), 'No space left on device; make room'),
    ],
)
def test_limits_are_explained(error, words):
    assert words in errors.explain(error, 'pretrain')


class Unsendable(Dataset):
    """Images for which there is no shared memory."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return torch.zeros(10_000)


def test_a_worker_without_shared_memory_is_not_waited_for():
    with pytest.raises(RuntimeError, match='exited unexpectedly') as raised:
        list(DataLoader(Unsendable(), batch_size=None, num_workers=1, worker_init_fn=end_with_unsent))
    assert system_number(raised.value) in (errno.EFBIG, None)  # torch's other way to notice tells no code
