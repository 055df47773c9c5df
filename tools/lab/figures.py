#!/usr/bin/env python
"""Write the measured figures into README and docs, from the files of benchmark.py, get_flops.py and study.py.

Edit the text as you like. A figure stands between a name and an end mark. Its formula is at the end of the page:

    takes <!--step-->0.92<!--/--> of the time

    <!-- figures
    step = ratio('step', 'CoMA DyViT-B') : .2f
    -->

The marks do not show on the rendered page. A table stands between <!--= FORMULA --> and an end mark, on lines of their
own; a figure may, too. A formula computes with + - * / and the functions below. After the colon stands the format of
the number in Python's format language (".2f", ".0%"); the default is three significant digits. If there is no
measurement, the page says "not measured".

A table of docs/benchmarks/FILE.json is called 'FILE/TABLE', one of cpu-2-threads.json or counts.json just 'TABLE'.
Studies are the docs/evidence/STUDY.jsonl, and the pages that ``study.py STUDY --report`` makes of them.
"""

import ast
import json
import math
import operator
import re
import sys
from argparse import ArgumentParser, Namespace
from functools import cache, partial
from pathlib import Path
from statistics import median as middle

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ('cpu-2-threads', 'counts')
FIGURE = re.compile(r'<!--=\s*(?P<formula>.*?)\s*(?:\s:\s(?P<format>\S+)\s*)?-->(?P<text>.*?)<!--/-->', re.DOTALL)
NAMES = re.compile(r'\n<!-- figures\n(?P<lines>.*?)\n-->\n*\Z', re.DOTALL)
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
NOT_MEASURED = 'not measured'


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('pages', nargs='*', type=Path, help='(README.md docs/*.md)')
    parser.add_argument(
        '--check', action='store_true', help='write nothing, fail if a page differs from the JSON files'
    )
    parser.add_argument('--data', type=Path, default=ROOT / 'docs/benchmarks', help='folder of the JSON files')
    args = parser.parse_args()
    args.pages = args.pages or [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
    for path in (args.data, *args.pages):
        if not path.exists():
            parser.error(f'there is no {path}')
    return args


# ---- how numbers are written ----


def show(number: float | str | None, spec: str | None = None) -> str:
    """Write a number as a format says, by default with three significant digits; counts and text as they are."""
    if number is None:
        return NOT_MEASURED
    if isinstance(number, str):
        return number
    if spec:
        return format(number, spec).replace('%', ' %')
    if isinstance(number, int):
        return str(number)
    if not number:
        return '0'
    return f'{number:.{min(3, max(0, 2 - math.floor(math.log10(abs(number)))))}f}'


def spread(values: list[float]) -> str:
    """Write the median, and behind it the least and the largest."""
    text = show(middle(values))
    return f'{text} ({show(min(values))}-{show(max(values))})' if len(values) > 1 else text


def join(rows: list[list[str]]) -> str:
    """Write a markdown table, its heads first, as a paragraph of its own."""
    heads, *rows = rows
    lines = [f'| {" | ".join(cells)} |' for cells in [heads, *rows]]
    return '\n'.join(['\n', lines[0], f'|{"---|" * len(heads)}', *lines[1:], '\n'])


class Aim:
    """A bound, what was measured, and whether that keeps it: three cells of a table."""

    def __init__(self, bound: str, number: float | None):
        kind, limit, percent = re.fullmatch(r'(<=|<|>=|>) ([\d.]+)( %)?', bound).groups()
        limit = float(limit) / (100 if percent else 1)
        keeps = {'<=': operator.le, '<': operator.lt, '>=': operator.ge, '>': operator.gt}[kind]
        self.bound, self.number = bound.replace('>=', '≥').replace('<=', '≤'), number
        self.verdict = '' if number is None else 'met' if keeps(number, limit) else '**falls short**'

    def show(self, spec: str | None) -> str:
        """Write the cells."""
        return f'{self.bound} | {show(self.number, spec)} | {self.verdict}'.rstrip()


# ---- what formulas can call ----


class Results:
    """The JSON files of a folder; every public method is a function for formulas."""

    def __init__(self, folder: Path):
        self._files = {path.stem: json.loads(path.read_text()) for path in folder.glob('*.json')}
        self._evidence = folder.parent / 'evidence'

    def _table(self, name: str) -> dict | None:
        file, _, table = name.rpartition('/')
        found = (self._files.get(file, {}).get('tables', {}).get(table) for file in ([file] if file else DEFAULTS))
        return next(filter(None, found), None)

    def _rounds(self, table: str, row: str) -> list[float] | None:
        return (self._table(table) or {}).get('rows', {}).get(row)

    def median(self, table: str, row: str) -> float | None:
        """Return the median of a row's rounds."""
        rounds = self._rounds(table, row)
        return middle(rounds) if rounds else None

    def least(self, table: str, row: str) -> float | None:
        """Return the least of a row's rounds."""
        return min(self._rounds(table, row) or (), default=None)

    def largest(self, table: str, row: str) -> float | None:
        """Return the largest of a row's rounds."""
        return max(self._rounds(table, row) or (), default=None)

    def ratio(self, table: str, row: str, to: str | None = None) -> float | None:
        """Return the median of a row's rounds over the same rounds of another row, by default the first."""
        first = next(iter((self._table(table) or {}).get('rows', ())), None)
        rounds, others = self._rounds(table, row), self._rounds(table, to or first)
        return middle(map(operator.truediv, rounds, others)) if rounds and others else None

    def column(self, table: str, row: str, start: str) -> float | str | None:
        """Return a further number of a row, from the column whose name has this start."""
        columns = (self._table(table) or {}).get('columns', {})
        return next((cells.get(row) for name, cells in columns.items() if name.startswith(start)), None)

    def machine(self, key: str, file: str = DEFAULTS[0]) -> str | None:
        """Return what a file says about machine, versions or settings."""
        machine = self._files.get(file, {}).get('machine', {})
        found = machine.get(key, machine.get('settings', {}).get(key))
        return None if found is None else str(found)

    def quality(self, study: str, cell: str, key: str, size: str = 'cpu') -> float | None:
        """Return what a study measured on a cell, or what it cost: the mean over seeds."""
        path, found = self._evidence / f'{study}.jsonl', {}
        for line in map(json.loads, path.read_text().splitlines() if path.is_file() else ()):
            own = line if line['cell'] == cell else {}
            for values in (own, own.get('qualities', {}), line.get('rows', {}).get(cell, {})):
                if line['size'] == size and key in values:
                    found[line['seed']] = values[key]
        return sum(found.values()) / len(found) if found else None

    def compared(self, run: str, row: str, column: str) -> float | None:
        """Return what `coma-mm compare` measured, the mean over runs of other seeds; row ``weights`` is the run's."""
        found = []
        for path in sorted(self._evidence.glob(f'compare-{run}-*.json')):
            first, *others = json.loads(path.read_text())['rows']
            rows = {'weights': first} | {other['name']: other for other in others}
            found.append(rows[row]['accuracy'][column]['mean'])
        return sum(found) / len(found) if found else None

    def report(self, study: str) -> str:
        """Write the tables and plots of a study's page, and below what they were made from."""
        path = self._evidence / f'{study}.md'
        if not path.is_file():
            return f'\n\n{NOT_MEASURED}\n\n'
        _, source, *parts = path.read_text().strip().split('\n\n')
        text = '\n\n'.join([*parts, source])
        return f'\n\n{re.sub(r"]" + r"[(](?!http)", "](evidence/", text)}\n\n'

    def aim(self, bound: str, number: float | None) -> Aim:
        """Write a bound, a number, and whether it keeps the bound, as three cells of a table."""
        return Aim(bound, number)

    def table(self, name: str, *columns: str, title: str | None = None, only: str = '', ratios: bool = True) -> str:
        """Write a table: medians with their ranges, ratios to the first, then the columns named, or all of them.

        ``title`` stands over the names of the rows; ``only`` keeps rows whose names have it. A table of counts has
        columns only.
        """
        table = self._table(name)
        if table is None:
            return f'\n\n{NOT_MEASURED}\n\n'
        rounds = table.get('rows', {})
        chosen = [key for key in table['columns'] if not columns or key.startswith(columns)]
        heads = [name.rpartition('/')[2] if title is None else title]
        heads += ([table['unit']] + ['ratio'] * ratios if rounds else []) + chosen
        names = [row for row in rounds or table['columns'][chosen[0]] if only in row]
        rows = [heads]
        for row in names:
            cells = [row]
            if rounds:
                cells += [spread(rounds[row])] + [show(self.ratio(name, row, names[0]), '.2f')] * ratios
            cells += [show(table['columns'][key].get(row, '')) for key in chosen]
            rows.append(cells)
        return join(rows)

    def grid(self, *names: str, title: str = '', column: str | None = None) -> str:
        """Write a table of two dimensions from rows called "A, B": A to the left, B at the head.

        Cells hold medians with their ranges, of several tables side by side; or with ``column`` what stands in it.
        """
        tables = [self._table(name) for name in names]
        if None in tables:
            return f'\n\n{NOT_MEASURED}\n\n'
        cells = [table['columns'][column] if column else table['rows'] for table in tables]
        places = [row.rsplit(', ', 1) for row in cells[0]]
        heads = list(dict.fromkeys(head for _, head in places))
        rows = [[title, *heads]]
        for left in dict.fromkeys(left for left, _ in places):
            found = [[part.get(f'{left}, {head}') for part in cells] for head in heads]
            write = show if column else spread
            rows.append([left, *(', '.join(write(value) for value in cell if value is not None) for cell in found)])
        return join(rows)


def _calculate(function, *numbers: float | None) -> float | None:
    return None if None in numbers else function(*numbers)


def evaluate(node: ast.AST, results: Results) -> float | str | Aim | None:
    """Compute a formula: constants, + - * /, calls of the functions of ``Results``, and nothing else."""
    compute = partial(evaluate, results=results)
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub()):
            return _calculate(operator.neg, compute(node.operand))
        case ast.BinOp() if type(node.op) in OPERATORS:
            return _calculate(OPERATORS[type(node.op)], compute(node.left), compute(node.right))
        case ast.Call(func=ast.Name(id=name)) if not name.startswith('_') and hasattr(Results, name):
            named = {keyword.arg: compute(keyword.value) for keyword in node.keywords}
            return getattr(results, name)(*map(compute, node.args), **named)
    functions = ', '.join(name for name in vars(Results) if not name.startswith('_'))
    raise ValueError(f'{ast.unparse(node)!r} is no number, text, + - * / or call of {functions}')


# ---- pages ----


@cache
def parse(formula: str) -> ast.AST:
    """Read a formula."""
    return ast.parse(formula, mode='eval').body


def read_names(page: str) -> dict[str, str]:
    """Return the formulas at the end of a page by their names."""
    found = NAMES.search(page)
    pairs = [line.partition(' = ') for line in (found['lines'].splitlines() if found else ())]
    return {name.strip(): formula.strip() for name, _, formula in pairs}


def expand(page: str) -> str:
    """Put formulas in the place of their names.

    Raises:
        ValueError: If the end of the page does not have a name, or nothing uses it.
    """
    names, used = read_names(page), set()

    def replace(match: re.Match) -> str:
        name = match['name']
        if name not in names:
            place = page[: match.start()].count('\n') + 1
            raise ValueError(f'line {place}: there is no formula {name!r} in the list <!-- figures at the end')
        used.add(name)
        return f'<!--= {names[name]} -->'

    page = re.sub(r'<!--(?P<name>\w+)-->', replace, page)
    if unused := sorted(names.keys() - used):
        raise ValueError(f'the list <!-- figures at the end has {", ".join(unused)}, which nothing uses')
    return page


def collapse(page: str) -> str:
    """Undo :func:`expand`."""
    for name, formula in read_names(page).items():
        page = page.replace(f'<!--= {formula} -->', f'<!--{name}-->')
    return page


def rewrite(page: str, results: Results) -> tuple[str, list[str]]:
    """Return a page with its figures anew, and the formulas that nothing has been measured for.

    Raises:
        ValueError: with the line, if a formula cannot be computed, a mark is missing, or a figure begins a line, where
            markdown would take all of the line for HTML.
    """
    missing = []

    def replace(match: re.Match) -> str:
        formula, spec = match['formula'], match['format']
        place = f'line {page[: match.start()].count(chr(10)) + 1}'
        if '<!--=' in match['text']:
            raise ValueError(f'{place}: {formula}: the end mark <!--/--> is missing')
        try:
            value = evaluate(parse(' '.join(formula.split())), results)
            text = value.show(spec) if isinstance(value, Aim) else show(value, spec)
        except (ValueError, TypeError, SyntaxError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f'{place}: {formula}: {error}') from None
        if NOT_MEASURED in text:
            missing.append(formula)
        if text[0] != '\n' and not page[page.rfind('\n', 0, match.start()) + 1 : match.start()].strip():
            raise ValueError(f'{place}: {formula}: put a word before it, a line that begins with <!-- is HTML')
        return page[match.start() : match.start('text')] + text + '<!--/-->'

    if page.count('<!--/-->') != page.count('<!--='):
        raise ValueError(f'{page.count("<!--=")} formulas, but {page.count("<!--/-->")} end marks <!--/-->')
    return FIGURE.sub(replace, page), missing


def main() -> None:
    """Rewrite or check."""
    args = parse_args()
    results, stale, missing = Results(args.data), [], []
    for path in args.pages:
        try:
            page = expand(path.read_text())
            new, unmeasured = rewrite(page, results)
        except ValueError as error:
            raise ValueError(f'{path.name}, {error}') from None
        missing += [f'{path.name}: {formula}' for formula in unmeasured]
        stale += [
            f'{path.name}: {after["formula"]}: {before["text"].strip()!r} should be {after["text"].strip()!r}'
            for before, after in zip(FIGURE.finditer(page), FIGURE.finditer(new))
            if before['text'] != after['text']
        ]
        if new != page:
            if not args.check:
                path.write_text(collapse(new))
    if missing:
        print(f'not measured ({len(missing)}):', *missing, sep='\n    ')
    if stale and args.check:
        raise ValueError('figures differ from docs/benchmarks; run make figures:\n    ' + '\n    '.join(stale))
    print(f'{len(stale)} figures changed' if stale else 'all figures are those of the JSON files')


if __name__ == '__main__':
    try:
        main()
    except ValueError as error:
        sys.exit(f'error: {error}')
