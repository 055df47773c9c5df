"""Tools in this process: what a new one takes, importing torch and a toolbox, is most of a small run."""

import pytest
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from processes import run


@pytest.fixture
def perform(monkeypatch, capfd):
    """Return a function like ``processes.call``: it runs a tool in a folder and returns what it printed."""

    def call(cwd, tool, *args):
        for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):  # as in a process of its own
            kind._instance_dict.clear()
        capfd.readouterr()
        run(monkeypatch, cwd, tool, *args)
        printed = capfd.readouterr()
        return printed.out + printed.err

    yield call
    register_backend('local', LocalBackend, force=True, prefixes='')
