"""The tools are called as in tests/tools."""

import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))


@pytest.fixture(autouse=True)
def forget_loggers():
    """Those of runs before, in this process, write to what pytest took for their screen."""
    MMLogger._instance_dict.clear()
