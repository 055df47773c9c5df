"""Write the report of a run from the files in its work dir: one page with curves, pictures and settings."""

from ..utils.text import one_line
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser


def main() -> None:
    """Write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=types.folder, help='folder of a run, of any toolbox')
    parser.add_argument('--out', type=types.output_path('.html'), help='the page (default: report.html in that folder)')
    add_force(parser)
    args = parser.parse_args()
    check_output(args.out or f'{args.work_dir}/report.html', '--out', [], args.force)
    from ..visualization.report import write_report

    print(one_line(f'written to {write_report(args.work_dir, args.out)}'))
