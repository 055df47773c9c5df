"""The common part of the tools beside this file: the checkout's own code, settings of the CPU, errors in one line."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from coma_mm.cli import run  # noqa: E402, F401
from coma_mm.utils.environment import prepare_cpu  # noqa: E402

TIMED = 'benchmark.py', 'check_gpu.py'  # set up what they time by themselves
if Path(sys.argv[0]).name not in TIMED:
    prepare_cpu()  # before torch is loaded
