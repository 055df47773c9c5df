"""Shared by attacks: code that leaves a trace when it runs, the tiny run, mmengine put back as it was."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from tiny_run import start_saving

sys.path.append(str(Path(__file__).parents[1] / 'tools'))  # where `processes` is


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def code(tmp_path):
    """Code that runs when a file is opened carelessly; by the end of the test it must not have."""
    yield Code(tmp_path / 'ran')
    assert not (tmp_path / 'ran').exists()


@pytest.fixture(autouse=True)
def default_scope():
    """The scope of the tests that follow: attacks go through the tools of three toolboxes."""
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture
def schemes():
    """The loaders of mmengine, put back afterwards: other tests read checkpoints of their own."""
    before = dict(CheckpointLoader._schemes)
    yield
    CheckpointLoader._schemes = before


@pytest.fixture
def start(tmp_path, monkeypatch, schemes):
    """Build the tiny run with our hooks alone, as train.py does, to be trained."""
    monkeypatch.chdir(tmp_path)

    return partial(start_saving, epochs=1)
