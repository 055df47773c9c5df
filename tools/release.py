#!/usr/bin/env python
"""Make a file of pre-trained weights that others can use."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

from coma_mm.cli.release import main  # noqa: E402

if __name__ == '__main__':
    main()
