"""Shared by all tests: tiny models gain nothing from more threads; the device of those that can run on a GPU."""

import gc
import logging
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import mmengine.config.utils
import pytest
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.visualization import Visualizer
from yapf.yapflib import yapf_api

torch.set_num_threads(1)
WARM_PYTHON = Path(__file__).parent / 'tools/warm_python.py'
logging.raiseExceptions = False  # of loggers that outlive the streams of a test: each record would print a traceback
# The lists of mmdet's configs are read once in a process, and the same config is laid out once: seconds in each run.
mmengine.config.utils._get_cfg_metainfo = cache(mmengine.config.utils._get_cfg_metainfo)
laid_out, lay_out = {}, yapf_api.FormatCode


def lay_out_once(text, **options):
    key = text, repr(options)
    if key not in laid_out:
        laid_out[key] = lay_out(text, **options)
    return laid_out[key]


yapf_api.FormatCode = lay_out_once


def pytest_collection_finish():
    """Exempt what imports left from the searches for garbage, which mmengine starts in each dataset."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # after fixtures
def pytest_runtest_teardown(nextitem):
    """Exempt what a test left, too; forget visualizers, which would go on writing into its folder, and our backend."""
    kinds = [Visualizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()
    register_backend('local', LocalBackend, force=True, prefixes='')
    backend_instances.clear()
    gc.collect()
    gc.freeze()


def pytest_configure(config):
    """Start what quickens processes of tools; one for all workers, which find it by the environment."""
    if not hasattr(config, 'workerinput'):
        config.socket_folder = TemporaryDirectory()
        place = os.environ['COMA_MM_WARM_PYTHON'] = f'{config.socket_folder.name}/socket'
        env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
        command = [sys.executable, WARM_PYTHON, '--serve', place]
        config.warm_python = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)


def pytest_unconfigure(config):
    """End it."""
    if not hasattr(config, 'workerinput'):
        config.warm_python.stdin.close()
        config.socket_folder.cleanup()


def pytest_addoption(parser):
    parser.addoption('--device', choices=['cpu', 'cuda'], default='cpu', help='of the tests marked gpu (cpu)')


@pytest.fixture
def device(request):
    """The device of a test marked ``gpu``."""
    name = request.config.getoption('--device')
    if name == 'cuda' and not torch.cuda.is_available():
        raise pytest.UsageError('--device cuda, but torch sees no GPU')
    return name
