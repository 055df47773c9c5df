"""Tools in this process: what a new one takes, importing torch and a toolbox, is most of a small run."""

import sys

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image
from processes import run

from coma_mm.cli import main


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """A folder of twelve images of noise."""
    folder = tmp_path_factory.mktemp('photos')
    for number in range(12):
        Image.effect_noise((70, 80), 50 + number).convert('RGB').save(folder / f'{number}.png')
    return folder


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

    return call


@pytest.fixture
def call(monkeypatch, tmp_path, capfd):
    """Return a function that calls ``coma-mm`` in this process, in a folder of its own, and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run_command(*args, succeeds=True):
        MMLogger._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', ['coma-mm', *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        MMLogger._instance_dict.clear()
        printed = ''.join(capfd.readouterr())
        assert (not code) == succeeds, printed
        return printed

    return run_command
