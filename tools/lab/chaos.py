#!/usr/bin/env python
"""Kill a small pre-training again and again, resume it, and compare its end with that of a run without kills.

The runs are ``tools/train.py``, and torchrun for two ranks. Each is a process of its own, forked from this one, which
saves 10 seconds of imports. Kills happen at random places, by functions that are patched in that process alone. The
package has no code for them.
"""

import atexit
import functools
import itertools
import json
import multiprocessing
import os
import pkgutil
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL, Array, c_longlong
from multiprocessing import connection, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import _lab
import mmpretrain.datasets
import mmpretrain.models  # noqa: F401 - what a run would import
import numpy as np
import torch
from benchmarks.timing import describe_machine
from mmengine.runner import EpochBasedTrainLoop
from rich import box
from rich.console import Console
from rich.table import Table
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SubprocessHandler

from coma_mm import datasets, models, visualization  # noqa: F401 - likewise
from coma_mm.checkpoints.finding import find_checkpoints, is_whole
from coma_mm.cli import run, train, types  # noqa: F401 - likewise
from coma_mm.cli.parser import ArgumentParser
from coma_mm.engine import RunInterrupted
from coma_mm.utils.files import atomic_write, is_unfinished, resource_dir, write_whole
from coma_mm.visualization.figures import MARKS

FORK = multiprocessing.get_context('fork')
PATIENCE = 120  # seconds that a run may take
LINGER = 30  # seconds that what a kill has left may live


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        '--runs', type=types.whole(0, 10_000), default=20, help='runs that are killed and resumed (%(default)s)'
    )
    parser.add_argument('--kinds', nargs='+', choices=KINDS, metavar='KIND', help=f'of kills: {", ".join(KINDS)} (all)')
    parser.add_argument('--disk', action='store_true', help='fill the disk, too: at a random step, with ever more room')
    parser.add_argument('--steps', type=types.whole(8, 10**6), help='measure memory over so many steps, too')
    parser.add_argument('--seed', type=types.seed, default=0, help='of what is drawn at random (%(default)s)')
    parser.add_argument(
        '--json', type=types.output_file(), metavar='OUT', help='write results, machine and versions here'
    )
    parser.add_argument(
        '--plot', type=types.output_file(*types.PICTURES), metavar='PNG', help='draw the memory of --steps here'
    )
    _lab.add_force(parser)
    args = parser.parse_args()
    _lab.check_results(args.json, '--json', args.force)
    _lab.check_results(args.plot, '--plot', args.force)
    if args.plot and not args.steps:
        parser.error('--plot draws what --steps measures: give that, too')
    if not hasattr(os, 'pidfd_open'):
        parser.error('this needs Linux')
    return args


def main() -> None:
    """Do it all, and say what came of it."""
    args = parse_args()
    torch.set_num_threads(1)  # no thread may be there when this process forks
    rng = random.Random(args.seed)
    tables: dict[str, dict] = {}
    failures: list[str] = []
    before = _descendants()
    _adopt_orphans(True)
    try:
        with tempfile.TemporaryDirectory(prefix='chaos-') as folder:
            bench = Bench(Path(folder))
            if args.runs:
                tables['kills'] = kill_and_resume(bench, args.runs, args.kinds or list(KINDS), rng, failures)
            if args.disk:
                tables['disk'] = fill_disk(bench, rng, failures)
            if args.steps:
                tables['memory'] = measure_memory(bench, args.steps, args.plot)
            left = _wait_for_end(before)
    finally:
        _adopt_orphans(False)
    failures += [f'process {pid} outlived its run' for pid in left]
    if args.json:
        machine = describe_machine(Namespace(device='cpu', **vars(args)))
        machine['settings'].pop('plot', None)
        write_whole(args.json, json.dumps(dict(tables=tables, machine=machine), indent=1) + '\n')
    if failures:
        raise ValueError(f'{len(failures)} promises were broken: {"; ".join(failures)}')


# ---- kills ----


class Kill(NamedTuple):
    """A kill: process, moment and signal.

    Attributes:
        kind: One of ``KINDS``.
        place: The function in which the blow falls.
        moment: ``before`` it, in the ``middle`` of what it writes, or ``after`` it.
        call: In which of its calls.
        about: Part of the name of the file that it has to be about.
        whom: ``'self'``, the ``'worker'`` that loads its images, or what has started it, the ``'parent'``.
        number: Of the signal.
        rank: In which of the ranks.
        ranks: That the run has.
    """

    kind: str
    place: str
    moment: str
    call: int
    about: str = ''
    whom: str = 'self'
    number: int = signal.SIGKILL
    rank: int = 0
    ranks: int = 1

    def lie_in_wait(self) -> None:
        """Patch the function in this process."""
        if int(os.environ.get('RANK', 0)) != self.rank:
            return
        place, _, name = self.place.rpartition('.')
        owner, calls = pkgutil.resolve_name(place), itertools.count(1)
        function = getattr(owner, name)

        @functools.wraps(function)
        def struck(first: Any, *args: Any, **kwargs: Any) -> Any:
            now = (not self.about or self.about in str(first)) and next(calls) == self.call
            if now and self.moment == 'middle':
                function(first, args[0][: len(args[0]) // 2], *args[1:], **kwargs)
            if now and self.moment != 'after':
                self.strike()
            result = function(first, *args, **kwargs)
            if now and self.moment == 'after':
                self.strike()
            return result

        setattr(owner, name, struck)

    def strike(self) -> None:
        """Send the signal."""
        if self.whom == 'worker':
            pid = _pid_of(multiprocessing.active_children()[0])
        else:
            pid = os.getppid() if self.whom == 'parent' else os.getpid()
        os.kill(pid, self.number)


def _in_step(kind: str, rng: random.Random, **others: Any) -> Kill:
    steps = (
        5 if others.get('whom') == 'parent' else 18 // others.get('ranks', 1)
    )  # early: its ranks must not reach the end
    place = rng.choice(['coma_mm.models.CoMA.loss', 'torch.Tensor.backward', 'torch.optim.AdamW.step'])
    return Kill(kind, place, rng.choice(['before', 'after']), rng.randint(1, steps), **others)


def _in_file(kind: str, rng: random.Random, method: str, about: str) -> Kill:
    place, moment = rng.choice([(method, 'middle'), (method, 'after'), ('replace', 'after')])
    return Kill(kind, f'pathlib.Path.{place}', moment, rng.randint(1, 3), about)


def _removing(kind: str, rng: random.Random) -> Kill:
    place = 'coma_mm.utils.manifest.remove_own'
    return Kill(kind, place, rng.choice(['before', 'after']), rng.randint(1, 2))


def _evaluating(kind: str, rng: random.Random) -> Kill:
    place = 'coma_mm.evaluation.NearestNeighbours.__init__'
    return Kill(kind, place, rng.choice(['before', 'after']), rng.randint(1, 4))


KINDS: dict[str, Callable[[str, random.Random], Kill]] = {
    'step': _in_step,
    'checkpoint': functools.partial(_in_file, method='write_bytes', about='.pth'),
    'last_checkpoint': functools.partial(_in_file, method='write_text', about='/.last_checkpoint.'),
    'checksums': functools.partial(_in_file, method='write_text', about='/.manifest.'),
    'removal': _removing,
    'validation': _evaluating,
    'worker': functools.partial(_in_step, whom='worker'),
    'SIGTERM': functools.partial(_in_step, number=signal.SIGTERM),
    'SIGUSR1': functools.partial(_in_step, number=signal.SIGUSR1),
    'rank': functools.partial(_in_step, ranks=2, rank=1),
    'torchrun': functools.partial(_in_step, ranks=2, whom='parent'),
    'torchrun-SIGTERM': functools.partial(_in_step, ranks=2, whom='parent', number=signal.SIGTERM),
}


def kill_and_resume(
    bench: 'Bench', runs: int, kinds: list[str], rng: random.Random, failures: list[str]
) -> dict[str, dict]:
    """Kill so many runs, resume them to their end, and print what it cost."""
    found: dict[str, list[tuple[int, int, float]]] = {kind: [] for kind in kinds[:runs]}
    for number in range(runs):
        kind = kinds[number % len(kinds)]
        kill = KINDS[kind](kind, rng)
        killed = bench.train(f'kill-{number}', kill, ranks=kill.ranks)
        start = time.monotonic()
        orphans = _wait_for_end(bench.before) if kill.ranks > 1 else []
        seconds = time.monotonic() - start
        lost, differences, resumed = bench.resume(f'kill-{number}', killed, kill.ranks)
        where = f'{kill.place.rpartition(".")[2]}, {kill.moment}, call {kill.call}'
        title = f'{kind} ({where})'
        if killed.status == 0:
            failures.append(f'{title}: the run was not killed')
        if kill.whom == 'parent' and killed.progress[1] == 9:
            failures.append(f'{title}: the ranks went on to the end of the run without torchrun')
        if resumed.status:
            failures.append(f'{title}: not resumed: {resumed.last_line}')
        elif differences:
            failures.append(f'{title}: {differences} values differ')
        failures += [f'{title}: process {pid} lived on' for pid in orphans]
        found[kind].append((lost, differences, seconds))
        print(f'{number + 1:3} of {runs}  {title}: {lost} steps lost, {differences} values differ', flush=True)
    columns: dict[str, dict[str, float]] = {
        'runs': {kind: len(rows) for kind, rows in found.items()},
        'resumed to the bit': {kind: sum(not row[1] for row in rows) for kind, rows in found.items()},
        'steps lost, mean': {kind: float(np.mean([row[0] for row in rows])) for kind, rows in found.items()},
        'steps lost, most': {kind: max(row[0] for row in rows) for kind, rows in found.items()},
        'values that differ': {kind: sum(row[1] for row in rows) for kind, rows in found.items()},
    }
    steps, values, waits = zip(*itertools.chain(*found.values()))
    totals = [runs, values.count(0), float(np.mean(steps)), max(steps), sum(values)]
    for cells, total in zip(columns.values(), totals):
        cells['all'] = total
    _show('kill', columns)
    columns['seconds until all ranks have ended, most'] = dict(all=max(waits))
    return dict(columns=columns)


# ---- full disks ----


def fill_disk(bench: 'Bench', rng: random.Random, failures: list[str]) -> dict[str, dict]:
    """Let files grow to ever larger limits, from a random step on; resume without a limit."""
    (whole,) = bench.whole(1).glob('epoch_*.pth')
    size = whole.stat().st_size
    heads = ('ends in one line', 'whole checkpoints only', 'steps lost', 'values that differ')
    columns: dict[str, dict] = {name: {} for name in heads}
    for number, limit in enumerate([0, 64, 1024, 16384, size // 8, size // 4, size // 2, size - 8192, size - 1024]):
        folder, step = f'disk-{number}', rng.randint(1, 12)
        full = bench.train(folder, limit=(step, limit))
        names = [path.name for path in (bench.folder / folder).glob('**/*.pth')]
        unfinished = [path for path in (bench.folder / folder).glob('**/.*') if is_unfinished(path)]
        checks = (
            full.status == 1 and full.last_line.startswith('error: cannot write') and 'Traceback' not in full.printed,
            not unfinished and all(map(is_whole, find_checkpoints(bench.folder / folder))),
        )
        lost, differences, resumed = bench.resume(folder, full)
        row = f'{limit / 1024:.1f} kB from step {step} on'
        if not all(checks) or resumed.status or differences:
            failures.append(
                f'full disk, {row}: ended with {full.status}, {full.last_line!r}; checkpoints {names}; resumed with '
                f'{resumed.status}, {resumed.last_line!r}; {differences} values differ'
            )
        for cells, value in zip(columns.values(), (*(('no', 'yes')[check] for check in checks), lost, differences)):
            cells[row] = value
    _show('room for each file', columns)
    return dict(columns=columns)


# ---- memory ----


def measure_memory(bench: 'Bench', steps: int, plot: str | None) -> dict[str, dict]:
    """Note the memory of a training process and its worker after each of so many steps."""
    memory = FORK.RawArray('q', 2 * steps)
    epoch = max(steps // 20, 1)  # steps, each epoch with its checkpoint, picture and evaluation
    options = [f'train_dataloader.dataset.length={4 * epoch}', f'train_cfg.max_epochs={-(-steps // epoch)}']
    done = bench.train('memory', options=options, memory=memory, patience=60 + steps)
    if done.status:
        raise ValueError(f'the run of {steps} steps failed: {done.last_line}')
    megabytes = np.array(memory).reshape(steps, 2).T * resource.getpagesize() / 1e6
    half = steps // 2
    columns: dict[str, dict[str, float]] = {
        f'MB after {half} steps': {},
        f'MB after {steps} steps': {},
        'MB more per 1,000 steps': {},
        'of these within epochs': {},
    }
    for name, values in zip(('training process', 'loading worker'), megabytes):
        growth = np.diff(values)[half - 1 :]  # in each step of the second half
        within = growth[np.arange(half, steps) % epoch != 0]  # and not in what comes after an epoch
        rates = (1000 / len(growth) * part.sum() for part in (growth, within))
        for cells, value in zip(columns.values(), (values[half - 1], values[-1], *rates)):
            cells[name] = float(value)
    _show('memory', columns)
    if plot:
        _draw(plot, megabytes)
    return dict(columns=columns)


def _draw(path: str, megabytes: np.ndarray) -> None:
    import matplotlib  # here: only the plot needs it

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3), layout='constrained')
    for name, values, colour in zip(('training process', 'loading worker'), megabytes, ('#d1495b', '#8d99ae')):
        axes.plot(np.arange(1, len(values) + 1), values, label=name, color=colour)
    axes.set_ylim(bottom=0)
    axes.set_xlabel('step')
    axes.set_ylabel('resident memory in MB')
    axes.legend(frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110, metadata=MARKS.get(Path(path).suffix.lower()))
    plt.close(figure)


# ---- runs ----


class Ended(NamedTuple):
    """The end of a run.

    Attributes:
        status: Of its process.
        printed: By all of its processes, until that one ended.
        progress: The steps that it began after, -1 before it did, and those that were done then; still counting in
            ranks that have outlived torchrun.
    """

    status: int | None
    printed: str
    progress: Array[c_longlong]

    @property
    def last_line(self) -> str:
        """The last line printed."""
        return (self.printed.rstrip().splitlines() or [''])[-1]


class Bench:
    """The folder of all runs, with those that were left alone.

    Args:
        folder: For work dirs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.before = _descendants()
        self.config = resource_dir('configs') / 'studies/_base_/chaos.py'

    @functools.cache  # noqa: B019 - one lives as long as the command
    def whole(self, ranks: int) -> Path:
        """Return the work dir of a run that was left alone."""
        name = f'whole-{ranks}'
        done = self.train(name, ranks=ranks)
        if done.status:
            raise ValueError(f'the run that was left alone failed: {done.last_line}')
        return self.folder / name

    def resume(self, name: str, killed: Ended, ranks: int = 1) -> tuple[int, int, Ended]:
        """Go on to the end, by the same command with ``--resume``, or without where nothing had been saved yet.

        Returns:
            Steps lost, how many values differ from those of the run left alone, and how it ended.
        """
        options = ['--resume'] if find_checkpoints(self.folder / name) else []
        resumed = self.train(name, arguments=options, ranks=ranks)
        lost = killed.progress[1] - resumed.progress[0] if resumed.progress[0] >= 0 else 0
        end = self.folder / name / 'epoch_3.pth'
        alone = read_end(self.whole(ranks) / end.name)
        differences = count_differences(alone, read_end(end) if end.is_file() else {})
        return lost, differences, resumed

    def train(
        self,
        name: str,
        kill: Kill | None = None,
        arguments: Sequence[str] = (),
        options: Sequence[str] = (),
        ranks: int = 1,
        limit: tuple[int, int] | None = None,
        memory: Array[c_longlong] | None = None,
        patience: float = PATIENCE,
    ) -> Ended:
        """Train in a process of its own.

        Args:
            name: Of the work dir.
            kill: What happens to it.
            arguments: Of train.py.
            options: For ``--cfg-options``.
            ranks: Started by torchrun, if there are several.
            limit: The step, counted from 1, with which files may no longer grow beyond so many bytes.
            memory: An array for the pages of the process and of its worker after each step.
            patience: In seconds, after which the run is killed.

        Raises:
            ValueError: If it has not ended by then.
        """
        command = [str(self.config), '--work-dir', str(self.folder / name), *arguments]
        command += ['--launcher', 'pytorch'] if ranks > 1 else []
        command += ['--cfg-options', *options] if options else []
        progress = FORK.RawArray('q', [-1, 0])
        watch = functools.partial(_watch, progress, limit, memory)
        start = functools.partial(_train, self.folder, command, [watch, *([kill.lie_in_wait] if kill else [])])
        reader, writer = os.pipe()
        process = FORK.Process(target=_begin, args=(writer, functools.partial(_torchrun, ranks, start)))
        if ranks == 1:
            process = FORK.Process(target=_begin, args=(writer, start))
        process.start()
        os.close(writer)
        pid = _pid_of(process)
        printed = _follow(pid, reader, patience)
        os.close(reader)
        if printed is None:
            for one in (pid, *_descendants(pid)):
                os.kill(one, signal.SIGKILL)
            raise ValueError(f'{name} ({kill}) has not ended after {patience:g} seconds')
        return Ended(process.exitcode, printed, progress)


def _follow(pid: int, reader: int, patience: float) -> str | None:
    """Return what a process prints until it ends, whoever else still holds its output; ``None`` if it does not end."""
    printed, deadline = b'', time.monotonic() + patience
    ended = os.pidfd_open(pid)
    try:
        while ready := connection.wait([reader, ended], max(0, deadline - time.monotonic())):
            text = os.read(reader, 1 << 16) if reader in ready else b''
            printed += text
            if ended in ready and not text:
                return printed.decode(errors='replace')
    finally:
        os.close(ended)
    return None


def _begin(output: int, start: Callable[[], None]) -> None:
    """Leave behind what this process has from the one that it was forked from."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    atexit.register(util._exit_function)  # type: ignore[attr-defined]  # what multiprocessing itself has registered
    start()


def _train(folder: Path, command: list[str], preparations: list[Callable[[], None]]) -> None:
    os.chdir(folder)
    sys.argv = ['train.py', *command]
    for prepare in preparations:
        prepare()
    run('train')


def _torchrun(ranks: int, start: Callable[[], None]) -> None:
    """Be torchrun, but for its ranks, which are forked; session and environment are those that it gives them."""
    SubprocessHandler._popen = lambda handler, args, env: _Forked(env, start)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torchrun.main([f'--nproc_per_node={ranks}', '--master_addr=127.0.0.1', f'--master_port={port}', 'train.py'])


class _Forked:
    """A process that torchrun takes for a ``subprocess.Popen``."""

    def __init__(self, env: dict[str, str], start: Callable[[], None]):
        def become_rank() -> None:
            os.environ.update(env)
            _begin(os.dup(1), start)

        self.process = FORK.Process(target=become_rank)
        self.process.start()
        self.pid = _pid_of(self.process)

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int | None:
        ended = os.pidfd_open(self.pid) if self.poll() is None else None
        if ended is not None and not connection.wait([ended], timeout):
            raise subprocess.TimeoutExpired('a rank', timeout or 0)
        return self.poll()


def _watch(progress: Array[c_longlong], limit: tuple[int, int] | None, memory: Array[c_longlong] | None) -> None:
    """Count this process's steps; note its memory, and fill its disk."""
    if int(os.environ.get('RANK', 0)):
        return
    run_iter = EpochBasedTrainLoop.run_iter

    def watched(loop: EpochBasedTrainLoop, idx: int, data_batch: Sequence[dict]) -> None:
        if progress[0] < 0:
            progress[0] = loop._iter
        if limit and loop._iter + 1 == limit[0]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
        try:
            run_iter(loop, idx, data_batch)
        except RunInterrupted:  # after the step
            progress[1] = loop._iter + 1
            raise
        if memory is not None and 2 * loop._iter <= len(memory):
            pids = os.getpid(), _pid_of(multiprocessing.active_children()[0])
            memory[2 * loop._iter - 2 : 2 * loop._iter] = [
                int(Path(f'/proc/{pid}/statm').read_text().split()[1]) for pid in pids
            ]
        progress[1] = loop._iter

    EpochBasedTrainLoop.run_iter = watched


# ---- ends ----


def read_end(path: Path) -> dict:
    """Return what a checkpoint has that the next step would depend on: names to tensors, numbers and text."""
    checkpoint = torch.load(path, weights_only=False)  # our own, of a moment ago
    info = checkpoint['message_hub']['runtime_info']
    # Not the hub's epoch and iter, which steps set anew: after a warning in the last step none follows. Meta has both.
    kept = {key: info[key] for key in ('max_epochs', 'max_iters') if key in info}
    parts = {key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}
    meta = {key: checkpoint['meta'][key] for key in ('epoch', 'iter', 'seed', 'position', 'batching')}
    return dict(_leaves(parts | dict(message_hub=kept, meta=meta)))


def _leaves(node: object, name: str = '') -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f'{name}.{key}')
    elif isinstance(node, (list, tuple)):
        yield from _leaves(dict(enumerate(node)), name)
    else:
        yield name, node


def count_differences(one: dict, other: dict) -> int:
    """Return how many of the values of two ends are not equal to the bit."""
    return sum(not _is_same(one.get(name), other.get(name)) for name in one.keys() | other.keys())


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


# ---- processes ----


def _pid_of(process: BaseProcess) -> int:
    """Return the number of a process that has been started."""
    assert process.pid is not None
    return process.pid


def _adopt_orphans(adopt: bool) -> None:
    """Adopt processes whose parents have died."""
    CDLL(None).prctl(36, int(adopt), 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _descendants(of: int | None = None) -> set[int]:
    """Return the living processes that this one, or another one, has started, and those that they have."""
    parents = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent = path.read_text().rpartition(')')[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state not in 'ZX':
            parents[int(path.parent.name)] = int(parent)
    found, size = {of or os.getpid()}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {of or os.getpid()}


def _wait_for_end(before: set[int]) -> list[int]:
    """Wait until no processes are left but those of before; return, and kill, what will not end."""
    deadline = time.monotonic() + LINGER
    while (left := _descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return sorted(left)


def _show(title: str, columns: dict[str, dict]) -> None:
    table = Table(box=box.SIMPLE, title_justify='left')
    for name in (title, *columns):
        table.add_column(name, justify='left' if name == title else 'right')
    for row in next(iter(columns.values())):
        cells = (column[row] for column in columns.values())
        table.add_row(row, *(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=max(Console().width, 110)).print(table)


if __name__ == '__main__':
    _lab.run('chaos', main)
