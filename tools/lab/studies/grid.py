"""Cells of a study in ``configs/studies``, and their results.

A study is a Python file with

- ``config``: an ordinary config, relative to the study's file, that most cells train;
- ``cells``: name -> ``dict(options=..., ...)``; ``options`` are merged into the config as ``--cfg-options`` are. A cell
  may have a ``config`` of its own (``None``: nothing to train) and ``measures``; ``length`` (times the size's epochs, 0
  for random weights) and ``seeds`` (some of the size's); and ``start``, the cell whose backbone it starts from;
- ``measures``: name -> arguments; the name up to the first ``_`` is a function of :mod:`.measures`;
- ``sizes``: ``smoke``, ``cpu`` and ``gpu``, each with ``seeds`` and what it changes: ``epochs``, ``options``,
  ``measures``, and ``cells``, the names of those to run;
- ``first``: cells to run with all seeds before the others come to their turn;
- ``data``: the environment variable by which the configs find their data, which ``--data`` sets;
- ``folders``: options that name a data set. Each cell is then run on each folder that ``--folder`` has named, as the
  cell ``CELL@NAME``;
- ``report``: what :mod:`.report` shows.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mmengine.config import Config

from coma_mm.utils.files import atomic_write, resource_dir

SIZES = ('smoke', 'cpu', 'gpu')


def studies_folder() -> Path:
    """Return where the studies lie: in the checkout, or in the installed package."""
    return resource_dir('configs') / 'studies'


@dataclass
class Cell:
    """One run of a study and all there is to measure on it.

    Args:
        study: Name of the study.
        size: ``smoke``, ``cpu`` or ``gpu``.
        name: Of the cell in the study.
        seed: Of weights, masks and crops.
        config: The file to train, absolute; ``None`` for nothing to train.
        options: Merged into it.
        epochs: To stretch the config's schedule to; ``None`` leaves it as it is, 0 trains nothing.
        start: Work dir of the cell whose backbone it starts from.
        measures: Name -> arguments.
    """

    study: str
    size: str
    name: str
    seed: int
    config: str | None = None
    options: dict = field(default_factory=dict)
    epochs: int | None = None
    start: str | None = None
    measures: dict = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name on the command line and in logs."""
        return f'{self.name}-{self.seed}'

    @property
    def work_dir(self) -> Path:
        """The folder of logs, checkpoints and measurements so far."""
        return work_dir(self.study, self.size) / self.title

    @property
    def settings(self) -> dict:
        """The settings that make results of the cell comparable, as JSON gives them back."""
        settings = dict(config=self.config and Path(self.config).stem, options=self.options, epochs=self.epochs)
        return json.loads(json.dumps(settings))

    def save(self) -> Path:
        """Write it into its work dir, for the process that runs it."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        path = self.work_dir / 'cell.json'
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1))
        return path


def work_dir(study: str, size: str) -> Path:
    """Return the folder of a study's runs, below the current directory."""
    return Path('work_dirs/studies', study, size)


def read_study(name: str) -> Config:
    """Read a study by its name or its file.

    Raises:
        ValueError: If there is none.
    """
    path = Path(name) if name.endswith('.py') else studies_folder() / f'{name}.py'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in studies_folder().glob('*.py')))
        raise ValueError(f'there is no study {name}; choose one of {known}, or give a file')
    return Config.fromfile(path)


def make_cells(study: Config, size: str, extra: dict | None = None) -> list[Cell]:
    """Return the cells of a study, with ``extra`` measures, in the order in which they are run.

    Raises:
        ValueError: If the study does not have the size.
    """
    if size not in study.sizes:
        raise ValueError(f'{study.filename} has the sizes {", ".join(study.sizes)}, not {size}')
    declared = study.sizes[size].to_dict()
    path = Path(study.filename).resolve()
    names = declared.get('cells') or list(study.cells)
    first = [name for name in names if name in study.get('first', ())]
    cells = []
    for group in (first, [name for name in names if name not in first]):
        for seed in declared['seeds']:
            for name in group:
                if seed in study.cells[name].get('seeds', declared['seeds']):
                    cells.append(_make_cell(study, path, size, name, seed, declared, extra or {}))
    if 'folders' not in study:
        return cells
    # The links and not what they stand for: results are the same wherever the data lie.
    return [
        replace(
            cell,
            name=f'{cell.name}@{link.name}',
            options=cell.options | dict.fromkeys(study.folders, str(link)),
        )
        for cell in cells
        for link in sorted(folder_links(path.stem).glob('*'))
    ]


def folder_links(study: str) -> Path:
    """Return where a study keeps the folders that it is run on, as links by their names."""
    return Path('work_dirs/studies', study, 'folders')


def link_folder(study: str, text: str) -> None:
    """Remember a folder ``NAME=PATH``.

    Raises:
        ValueError: If it is none.
    """
    name, _, path = text.partition('=')
    if not re.fullmatch('[A-Za-z0-9_]+', name) or not os.path.isdir(os.path.expanduser(path)):
        raise ValueError(f'--folder {text}: give NAME=PATH, a name of letters, digits and _ and a folder that is there')
    link = folder_links(study) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.abspath(os.path.expanduser(path)))


def _make_cell(study: Config, path: Path, size: str, name: str, seed: int, declared: dict, extra: dict) -> Cell:
    own = study.cells[name].to_dict()
    config = own['config'] if 'config' in own else study.get('config')
    start = own.get('start') and str(work_dir(path.stem, size) / f'{own["start"]}-{seed}')
    by_size = {} if 'config' in own else declared  # epochs and options of a size are meant for the study's config
    epochs = by_size.get('epochs')
    measures = {**(own['measures'] if 'measures' in own else study.get('measures', {})), **extra}
    return Cell(
        study=path.stem,
        size=size,
        name=name,
        seed=seed,
        config=config and str((path.parent / config).resolve()),
        options={**by_size.get('options', {}), **own.get('options', {}), **own.get(size, {})},
        epochs=_stretch(epochs, own.get('length', 1)),
        start=start,
        measures={key: {**value, **declared.get('measures', {}).get(key, {})} for key, value in measures.items()},
    )


def _stretch(epochs: int | None, length: float) -> int | None:
    if not length:
        return 0
    return epochs if length == 1 or not epochs else max(2, round(epochs * length))


# ---- results ----


def results_file(study: str, size: str) -> Path:
    """Return where results are kept: those of smoke tests mean nothing and stay in the work dir."""
    return work_dir(study, size) / 'results.jsonl' if size == 'smoke' else Path('docs/evidence') / f'{study}.jsonl'


def read_results(study: str, size: str) -> list[dict]:
    """Return the last line of each cell of a size, in the order in which they came to be.

    Raises:
        ValueError: If a line is damaged.
    """
    return [line for line in read_lines(results_file(study, size)) if line['size'] == size]


def read_lines(path: Path) -> list[dict]:
    """Return the last line of each cell of a file of results, none if there is no such file.

    Raises:
        ValueError: If a line is damaged.
    """
    lines = {}
    for number, text in enumerate(path.read_text().splitlines() if path.is_file() else (), 1):
        try:
            line = json.loads(text)
            lines[line['size'], line['cell'], line['seed']] = line
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'line {number} of {path} is no result ({error!r}): remove it') from None
    return list(lines.values())


def append_result(line: dict) -> None:
    """Add a line to the results, whole or not at all."""
    path = results_file(line['study'], line['size'])
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.is_file() else ''
    with atomic_write(path) as unfinished:
        unfinished.write_text(f'{before}{json.dumps(line)}\n')


def is_finished(cell: Cell, results: list[dict]) -> bool:
    """Say whether there are results of the cell, with its settings and all that it measures."""
    return any(
        (line['cell'], line['seed'], line['settings']) == (cell.name, cell.seed, cell.settings)
        and set(cell.measures) <= set(line['measures'])
        for line in results
    )


def finished_elsewhere(study: str, size: str) -> list[tuple[Cell, dict]]:
    """Return all finished cells of the other studies with their results."""
    found = []
    for path in sorted(studies_folder().glob('*.py')):
        if path.stem != study and (results := read_results(path.stem, size)):
            by_name = {(line['cell'], line['seed']): line for line in results}
            for cell in make_cells(read_study(str(path)), size):
                line = by_name.get((cell.name, cell.seed))
                if line and is_finished(cell, [line]):
                    found.append((cell, line))
    return found


def take_result(cell: Cell, elsewhere: list[tuple[Cell, dict]]) -> dict | None:
    """Return the results of the same run in another study, measured in the same ways, as a line of the cell."""
    for other, line in elsewhere:
        same = all(getattr(other, name) == getattr(cell, name) for name in ('settings', 'seed', 'start'))
        if same and cell.measures.items() <= other.measures.items():
            return {**line, 'study': cell.study, 'cell': cell.name, 'taken_from': other.study}
    return None


@contextmanager
def locked(study: str) -> Iterator[int]:
    """Hold a study for oneself; the process of a cell inherits the lock and keeps it for as long as it lives.

    Raises:
        ValueError: If another process has it.
    """
    import fcntl  # here: not on every system, and a report needs none

    folder = Path('work_dirs/studies', study)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError:
        raise ValueError(
            f'another process is at work on {study} in {folder.resolve()}: wait for it, or end it'
        ) from None
    finally:
        os.close(descriptor)
