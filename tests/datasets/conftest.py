import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def scope():
    """Pipelines are mmpretrain's, whatever toolbox a test before these has run."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield
