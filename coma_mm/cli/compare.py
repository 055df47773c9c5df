"""Measure on labelled images whether pre-training helps: kNN and probes, beside random weights and raw pixels."""

import json
import os
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..settings import CompareSettings
from ..utils import manifest
from ..utils.paths import short_path
from ..utils.text import printable
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser, add_settings
from .streams import announce

JSON, PICTURE = 'compare.json', 'compare.png'


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm compare', description=__doc__)
    parser.usage = '%(prog)s [CONFIG] RUN LABELLED_FOLDER [options]'
    parser.add_argument(
        'names',
        nargs='+',
        type=types.path,
        metavar='RUN LABELLED_FOLDER',
        help='RUN: folder of a run, or a file of weights; give CONFIG if the file does not state its architecture. '
        'LABELLED_FOLDER: a sub-folder of images for each class, or train and val with such sub-folders',
    )
    parser.add_argument(
        '--out', type=types.output_folder, help="folder of compare.json and compare.png (default: the run's)"
    )
    add_settings(parser, CompareSettings)
    add_force(parser)
    args = parser.parse_args()
    *args.names, folder = args.names
    if not 1 <= len(args.names) <= 2 or len(args.names) == 2 and not args.names[0].endswith('.py'):
        parser.error('give two names, the folder of a run and a folder of labelled images')
    for name, read in [(folder, types.folder), *((name, types.weights) for name in args.names)]:
        parser.read(read, name)
    args.folder = folder
    args.run = find_run(args.names[-1])
    args.out = args.out or args.run or os.curdir
    for root in filter(None, (folder, args.val)):
        if Path(os.path.realpath(args.out)).is_relative_to(os.path.realpath(root)):
            raise ValueError(f'{args.out} lies in {root}, which is read: name another folder with --out')
    files = [name for name in [*args.names, *(args.against or ())] if os.path.isfile(name)]
    for name in (JSON, PICTURE):
        check_output(Path(args.out, name), '--out', [*files, folder, args.val], args.force)
    return args


def find_run(name: str) -> Path | None:
    """Return the folder of a run, if a name is that, or a file in it."""
    place = Path(name) if os.path.isdir(name) else Path(name).parent
    return place if '://' not in name and manifest.has_manifest(place) else None


def main() -> None:
    """Compare."""
    args = parse_args()
    announce(f'comparing {args.names[-1]}')
    from mmengine.logging import MMLogger

    from ..comparing import measure_all
    from ..evaluation.accuracy import make_table
    from ..visualization.classification import draw_comparison
    from ..visualization.run_files import claimed_pictures

    in_run = args.run is not None and os.path.realpath(args.run) == os.path.realpath(args.out)
    for name in claimed_pictures(args.run, ['comparison']) if in_run else ():
        if not manifest.is_own(args.run, name):
            raise ValueError(
                f'{short_path(args.run / name)} was not written by a run, and this command could write a file of that '
                'name: move it away, or name another folder with --out'
            )
    MMLogger.get_current_instance().setLevel('WARNING')
    settings = {field.name: getattr(args, field.name) for field in fields(CompareSettings)}
    found = measure_all(args.names, args.folder, **settings)
    described = found.describe()
    table = make_table(found.rows)
    print('', 'accuracy in percent, +- one standard error', table, '', *described['verdicts'], '', sep='\n')
    title = f'{short_path(args.names[-1])} on {short_path(args.folder)}'
    Path(args.out).mkdir(parents=True, exist_ok=True)
    with manifest.any_file(Path(args.out, PICTURE), 'picture') as unfinished:
        picture = draw_comparison(found.rows, title, unfinished)
    with manifest.any_file(Path(args.out, JSON), 'comparison') as unfinished:
        unfinished.write_text(json.dumps(described, indent=1))
    if in_run:
        add_to_report(args.run, found.checkpoint, picture)
    print(printable(f'written to {short_path(Path(args.out, JSON))} and {PICTURE} beside it'))


def add_to_report(run: Path, checkpoint: str, picture: Any) -> None:
    """Keep the picture among those of the run, and write its page anew."""
    from ..visualization.report import REPORT, write_report
    from ..visualization.run_files import keep_picture

    step = manifest.read_manifest(run).get(Path(checkpoint).name, {}).get('iter', 0)
    keep_picture(run, 'comparison', picture, step)
    if manifest.is_own(run, REPORT):
        write_report(run)
