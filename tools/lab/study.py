#!/usr/bin/env python
"""Answer a question of ``configs/studies`` by a grid of small runs, and write the results.

Finished cells are skipped, and interrupted cells resume from their last checkpoint. So the command can be stopped and
repeated at any time. If a cell fails, the others go on. Results are lines of docs/evidence/NAME.jsonl.
"""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from functools import partial
from pathlib import Path
from shutil import copyfile
from threading import TIMEOUT_MAX, Lock, Timer

import _lab
from mmengine.config import Config
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from studies.grid import (
    SIZES,
    Cell,
    append_result,
    finished_elsewhere,
    is_finished,
    link_folder,
    locked,
    make_cells,
    read_results,
    read_study,
    results_file,
    take_result,
)

from coma_mm.cli import types
from coma_mm.cli.parser import ArgumentParser
from coma_mm.utils.environment import count_cores

TRAINING = 0.75  # share of a cell's time, for the progress bar


class CellError(ValueError):
    """The process of a cell has failed; the text says which and why."""


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('name', type=types.path, help='of a study in configs/studies, or a file like them')
    parser.add_argument('--size', choices=SIZES, default='cpu', help='smoke: minutes, to try; cpu; gpu (%(default)s)')
    parser.add_argument(
        '--data', type=types.path, metavar='FILE_OR_FOLDER', help="the study's images; its file says what they are"
    )
    parser.add_argument(
        '--folder',
        action='append',
        default=[],
        type=types.text,
        metavar='NAME=PATH',
        help='images to run all cells on, with a sub-folder for each class; several by repeating it (recipe)',
    )
    parser.add_argument(
        '--only', nargs='+', type=types.text, metavar='CELL', help='cells by name, or by name and seed: copy, copy-0'
    )
    parser.add_argument(
        '--extra', nargs='*', type=types.text, metavar='MEASURE', help='also what the study measures on demand'
    )
    parser.add_argument(
        '--minutes', type=types.number(0), help='stop after so many; the cells at work go on at the next call'
    )
    parser.add_argument(
        '--jobs',
        type=types.whole(1, 8 * count_cores()),
        default=1,
        metavar='N',
        help='cells at a time, each on its share of the CPU cores: of small models, two on two cores come further',
    )
    parser.add_argument('--list', action='store_true', help='print the cells and which are finished; run nothing')
    parser.add_argument('--report', action='store_true', help='write tables and plots of what is there; run nothing')
    return parser.parse_args()


def main() -> None:
    """Run a study or report on it."""
    args = parse_args()
    study = read_study(args.name)
    name = Path(study.filename).stem
    if args.report:
        from studies.report import write_report  # here: matplotlib takes a second

        for path in write_report(study, name, args.size):
            print(f'wrote {path}')
        return
    if args.folder and 'folders' not in study:
        raise ValueError(f'{name} has data of its own kind: leave --folder out, see --data')
    for folder in args.folder:
        link_folder(name, folder)
    cells = choose(make_cells(study, args.size, extra_measures(study, args.extra)), args.only)
    if not cells:
        raise ValueError(f'{name} is run on labelled photos: name them by --folder NAME=PATH')
    results = read_results(name, args.size)
    if args.list:
        for cell in cells:
            print(f'{"finished" if is_finished(cell, results) else "        "}  {cell.title}')
        return
    if args.data:
        os.environ[study.data] = os.path.abspath(args.data)
    # What ends this process ends the one of the cell, too.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped by a signal; the same command goes on'))
    try:
        with locked(name) as lock:
            run_cells(cells, results, args.minutes, lock, args.jobs)
    finally:
        signal.signal(signal.SIGTERM, before)


def choose(cells: list[Cell], only: list[str] | None) -> list[Cell]:
    """Return the cells asked for, in the order of the study.

    Raises:
        ValueError: If a name is none of a cell.
    """
    if only is None:
        return cells
    unknown = set(only) - {name for cell in cells for name in _names(cell)}
    if unknown:
        names = ', '.join(dict.fromkeys(cell.name for cell in cells))
        raise ValueError(f'there is no cell {", ".join(sorted(unknown))}; there are {names}')
    return [cell for cell in cells if _names(cell) & set(only)]


def _names(cell: Cell) -> set[str]:
    return {cell.name, cell.title, cell.name.partition('@')[0]}


def extra_measures(study: Config, names: list[str] | None) -> dict:
    """Return what a study measures on demand, all of it without names.

    Raises:
        ValueError: If a name is unknown.
    """
    known = study.get('extra', {})
    known = known.to_dict() if known else {}
    if names is None:
        return {}
    unknown = set(names) - set(known)
    if unknown or not known:
        raise ValueError(f'the study measures on demand: {", ".join(known) or "nothing"}; not {", ".join(unknown)}')
    return {name: known[name] for name in names or known}


def run_cells(cells: list[Cell], results: list[dict], minutes: float | None, lock: int, jobs: int) -> None:
    """Run what is not finished, so many cells at a time, until the time is up.

    Raises:
        ValueError: After all others are done, if cells have failed.
    """
    deadline = time.monotonic() + 60 * minutes if minutes is not None else float('inf')
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('cells, elapsed'),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    todo = [cell for cell in cells if not is_finished(cell, results)]
    elsewhere = finished_elsewhere(todo[0].study, todo[0].size) if todo else []
    for cell in list(todo):
        if line := take_result(cell, elsewhere):
            append_result(line)
            print(f'{cell.title}: the same run as {line["taken_from"]} has')
            todo.remove(cell)
    if not todo:
        print(f'all {len(cells)} cells are finished')
        return
    print(
        f'{len(cells) - len(todo)} of {len(cells)} cells are finished; '
        f'results: {results_file(todo[0].study, todo[0].size)}'
    )
    # What trains nothing may be timing something, which takes a machine that has nothing else to do.
    groups = [cell for cell in todo if cell.config], [cell for cell in todo if not cell.config]
    finished = []
    failed: dict[str, None] = {}
    with (
        Progress(*columns, speed_estimate_period=7200) as progress,
        closing(Work(todo, jobs, deadline, lock, progress)) as work,  # an error in this process or a signal ends all
    ):
        for group in groups:
            started: dict[str, Future] = {}  # by the work dirs of cells
            for cell in group:
                run = partial(run_cell, cell, work, started.get(cell.start or ''))
                started[str(cell.work_dir)] = work.pool.submit(run)
            for future in as_completed(started.values()):
                try:
                    finished.append(future.result())
                except CellError as error:
                    if str(error) not in failed:  # those that were to start from it report it again
                        progress.console.print(f'error: {error}', highlight=False, markup=False)
                    failed[str(error)] = None
    if not all(finished):
        print('stopped; the same command goes on')
    if failed:
        raise ValueError(f'{"; ".join(failed)}; the same command tries again')


class Work:
    """The queue of cells that threads share, and the one bar with the progress of all.

    Args:
        cells: What is to be run.
        jobs: Cells at a time.
        deadline: When to stop, by the monotonic clock.
        lock: Descriptor of the study's lock, which the processes of cells inherit.
        progress: Where the bar goes.
    """

    def __init__(self, cells: list[Cell], jobs: int, deadline: float, lock: int, progress: Progress):
        self.jobs, self.deadline, self.lock, self.progress = jobs, deadline, lock, progress
        self.pool = ThreadPoolExecutor(jobs)
        self.processes: list[subprocess.Popen] = []
        self.ended = False
        self.alone = Lock()
        self.fractions = {cell.title: 0.0 for cell in cells}
        self.bar = progress.add_task('', total=len(cells))

    def is_over(self) -> bool:
        """Say whether the time is up."""
        return self.ended or time.monotonic() >= self.deadline

    def start(self, path: Path) -> subprocess.Popen:
        """Start the process of a cell, on its share of the cores."""
        paths = [str(_lab.ROOT), str(Path(__file__).parent), *filter(None, [os.environ.get('PYTHONPATH')])]
        threads = dict(OMP_NUM_THREADS=str(max(1, count_cores() // self.jobs))) if self.jobs > 1 else {}
        process = subprocess.Popen(
            [sys.executable, '-m', 'studies.cell', str(path)],
            env={**os.environ, **threads, 'PYTHONPATH': os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[self.lock],
        )
        with self.alone:
            self.processes.append(process)
            if self.ended:
                process.terminate()
        return process

    def close(self) -> None:
        """End all processes, if they have not come to theirs, and wait for them."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self.alone:
            self.ended = True
            for process in self.processes:
                process.terminate()  # does nothing to one that has ended
        self.pool.shutdown()
        for process in self.processes:
            process.wait()

    def show(self, cell: Cell, fraction: float) -> None:
        """Move the bar: so much of a cell is done."""
        with self.alone:
            self.fractions[cell.title] = fraction
            at_work = ', '.join(title for title, done in self.fractions.items() if 0 < done < 1)
            self.progress.update(self.bar, description=at_work, completed=sum(self.fractions.values()))

    def keep(self, cell: Cell, line: dict) -> None:
        """Append a cell's results, and show them."""
        with self.alone:
            append_result(line)
        copy_picture(cell)
        values = ', '.join(f'{key} {value:g}' for key, value in line.get('qualities', {}).items())
        self.progress.console.print(f'{cell.title}: {values}', highlight=False)
        self.show(cell, 1.0)


def run_cell(cell: Cell, work: Work, before: Future | None) -> bool:
    """Run a cell in a process of its own, keep its results, and say whether there was time for it.

    Raises:
        CellError: If the process fails, with the last line that it printed, or that of the cell it starts from did.
    """
    if before is not None and not before.result():  # the cell whose weights it starts from
        return False
    if work.is_over():
        return False
    path = cell.save()
    (cell.work_dir / 'result.json').unlink(missing_ok=True)
    process = work.start(path)
    last: deque[str] = deque(maxlen=1)
    alarm = Timer(max(0, min(work.deadline - time.monotonic(), TIMEOUT_MAX)), process.terminate)
    alarm.daemon = True
    alarm.start()
    with open(cell.work_dir / 'log.txt', 'a') as log:
        for text in process.stdout or ():
            if text.startswith('@'):
                work.show(cell, progress_of(cell, text))
            else:
                log.write(text)
                last.append(text)
    code = process.wait()
    alarm.cancel()
    if code and work.is_over():
        return False
    if code:
        reason = last[-1].strip() if last else f'exit code {code}'
        raise CellError(f'{cell.title} failed: {reason} (all that it printed: {cell.work_dir / "log.txt"})')
    work.keep(cell, json.loads((cell.work_dir / 'result.json').read_text()))
    return True


def progress_of(cell: Cell, text: str) -> float:
    """Return the share of a cell that is done, from a line ``@<task> <share of the training>``."""
    name, fraction = text[1:].split()
    tasks = list(cell.measures)
    if name == 'train':
        return TRAINING * float(fraction)
    return TRAINING + (1 - TRAINING) * tasks.index(name) / len(tasks)


def copy_picture(cell: Cell) -> None:
    """Keep the picture that a cell may have drawn beside the results."""
    picture = cell.work_dir / 'picture.jpg'
    if picture.is_file():
        copyfile(picture, results_file(cell.study, cell.size).with_name(f'{cell.study}-{cell.title}.jpg'))


if __name__ == '__main__':
    _lab.run('study', main)
