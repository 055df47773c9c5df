"""Tools as their users call them: processes, in another directory."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
TINY = Path(__file__).resolve().parent / 'tiny_coma.py'
WARM_PYTHON = str(Path(__file__).resolve().parent / 'warm_python.py')


def call(cwd, tool, *args, succeeds=True):
    """Call a tool in a folder; return what it printed, standard error last."""
    command = [str(TOOLS / tool), *map(str, args)]
    if tool.endswith('.py'):
        command.insert(0, WARM_PYTHON)
    # What is this small gains nothing from more threads, and on a busy machine they wait for each other.
    env = dict(os.environ, PYTHON=WARM_PYTHON, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    process = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    printed = process.stdout + process.stderr
    assert (process.returncode == 0) == succeeds, '\n'.join(printed.splitlines()[-30:])
    return printed


def run(monkeypatch, cwd, tool, *args):
    """Run a tool in this process, which is quicker; processes that it starts are real."""
    monkeypatch.chdir(cwd)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setattr(sys, 'argv', [str(TOOLS / tool), *map(str, args)])
    monkeypatch.setattr(sys, 'path', [str(TOOLS), *sys.path])
    runpy.run_path(str(TOOLS / tool), run_name='__main__')


def refuse(monkeypatch, capfd, cwd, tool, *args):
    """Run a tool that should refuse its arguments; return what it says."""
    with pytest.raises(SystemExit) as refusal:
        run(monkeypatch, cwd, tool, *args)
    code = refusal.value.code
    assert code
    return capfd.readouterr().err + ('' if isinstance(code, int) else code)


def last_line(printed):
    """Return what a reader sees first."""
    return printed.rstrip().splitlines()[-1]
