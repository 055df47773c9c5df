"""Common part of the tools in this folder: the checkout's own code, settings of the CPU, errors in one line."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from coma_mm.cli import run  # noqa: E402, F401
from coma_mm.cli.outputs import add_force, check_output  # noqa: E402, F401
from coma_mm.utils.environment import prepare_cpu  # noqa: E402
from coma_mm.utils.files import remember  # noqa: E402

TIMED = 'benchmark.py', 'check_gpu.py'  # set up what they time by themselves
if Path(sys.argv[0]).name not in TIMED:
    prepare_cpu()  # before torch is loaded
RESULTS = re.compile(rb'\s*\{\s*"(machine|tables|benchmark|checks)": ')  # how files of results begin


def check_results(path: 'str | Path | None', option: str, force: bool = False) -> None:
    """Refuse a file that is there and that these tools have not written, see :func:`.outputs.check_output`."""
    place = Path(path) if path else None
    if place:
        remember(place)
    if place and place.is_file() and not place.is_symlink():
        with place.open('rb') as file:
            if place.suffix == '.json' and RESULTS.match(file.read(1000)):
                return
    if place:
        check_output(place, option, [], force)
