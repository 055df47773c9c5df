"""Common part of the tools in this folder: each starts a command of coma_mm.cli."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

from coma_mm.cli import run  # noqa: E402, F401
