"""Write the report of a run, one page with its curves, pictures and settings, from what lies in its work dir."""

from ..visualization.report import write_report
from .options import ArgumentParser, output_path


def main() -> None:
    """Write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='folder of a run, of any toolbox')
    parser.add_argument('--out', type=output_path, help='(report.html in that folder)')
    args = parser.parse_args()
    print(f'written to {write_report(args.work_dir, args.out)}')
