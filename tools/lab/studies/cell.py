"""One cell of a study, in a process of its own: train, then measure. Results are kept, so it can be interrupted.

    python -m studies.cell work_dirs/studies/STUDY/SIZE/CELL/cell.json

Lines on the standard output that begin with ``@`` are its progress, for the process that waits: ``@0.25``.
"""

import json
import sys
import time
from pathlib import Path

from coma_mm.utils.environment import prepare_cpu

if __name__ == '__main__':  # but not in processes that measure memory
    prepare_cpu()  # before torch is loaded

import torch  # noqa: E402
from benchmarks.timing import cpu_name, find_commit  # noqa: E402

from coma_mm.utils.files import atomic_write  # noqa: E402

from .grid import Cell  # noqa: E402
from .measures import MEASURES  # noqa: E402
from .training import train_cell  # noqa: E402


def run(cell: Cell) -> dict:
    """Train and measure what is not yet, and return the line of results."""
    cell.work_dir.mkdir(parents=True, exist_ok=True)
    path = cell.work_dir / 'measured.json'
    done = json.loads(path.read_text()) if path.is_file() else {}
    if done.get('settings') != cell.settings:
        done = dict(settings=cell.settings, run=describe_run())
    for name, options in {'train': {}, **cell.measures}.items():
        if name in done:
            continue
        print(f'@{name} 0', flush=True)
        start = time.monotonic()
        if name == 'train':
            done[name] = train_cell(cell) if cell.config else {}
        else:
            done[name] = MEASURES[name.split('_')[0]](cell, **options)
            done[name]['seconds'] = round(time.monotonic() - start, 1)
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(done))
    return make_line(cell, done)


def make_line(cell: Cell, done: dict) -> dict:
    """Put together what was measured on a cell."""
    line = dict(study=cell.study, size=cell.size, cell=cell.name, seed=cell.seed, settings=cell.settings, **done['run'])
    trained = dict(done['train'])
    qualities, curve = trained.pop('qualities', {}), trained.pop('curve', [])
    rows: dict[str, dict] = {}
    line |= trained | dict(measures=list(cell.measures), seconds_measuring={})
    for name in cell.measures:
        found = dict(done[name])
        line['seconds_measuring'][name] = found.pop('seconds')
        curve = curve + found.pop('curve', [])
        rows |= found.pop('rows', {})
        qualities |= found
    line |= dict(qualities=qualities, rows=rows, curve=curve)
    return {key: value for key, value in line.items() if value not in ([], {})}


def describe_run() -> dict:
    """Return what results depend on beside settings."""
    return dict(
        date=time.strftime('%Y-%m-%d'),
        commit=find_commit(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def main() -> None:
    """Run the cell of a file and write its line beside it."""
    path = Path(sys.argv[1])
    cell = Cell(**json.loads(path.read_text()))
    line = run(cell)
    with atomic_write(path.with_name('result.json')) as unfinished:
        unfinished.write_text(json.dumps(line))


if __name__ == '__main__':
    main()
