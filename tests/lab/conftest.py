"""The lab's modules, and the tools called as in tests/tools."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / 'tools'), str(TESTS.parent / 'tools/lab')]
