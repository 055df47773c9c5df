"""Runs change what mmengine writes files with, for the whole process."""

import pytest
from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances


@pytest.fixture(autouse=True)
def backends():
    """Leave mmengine as it was."""
    yield
    register_backend('local', LocalBackend, force=True, prefixes='')
    backend_instances.clear()
