"""The tools are called as in tests/tools."""

import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / 'tools'), str(TESTS.parent / 'tools/lab')]


@pytest.fixture(autouse=True)
def forget_loggers():
    """Forget loggers of earlier runs in this process: they write to what pytest took for their screen."""
    MMLogger._instance_dict.clear()
