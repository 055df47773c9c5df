"""Shared by all tests: tiny models gain nothing from more threads; the device of those that can run on a GPU."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption('--device', choices=['cpu', 'cuda'], default='cpu', help='of the tests marked gpu (cpu)')


@pytest.fixture
def device(request):
    """The device of a test marked ``gpu``."""
    name = request.config.getoption('--device')
    if name == 'cuda' and not torch.cuda.is_available():
        raise pytest.UsageError('--device cuda, but torch sees no GPU')
    return name
