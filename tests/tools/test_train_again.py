"""A config that a run has written is an ordinary one: another run of it has its own options and its own files."""

from mmengine.config import Config
from processes import TINY, call

from coma_mm.utils.configs import type_name


def test_a_written_config_trains_elsewhere(tmp_path):
    call(tmp_path, 'train.py', TINY, '--work-dir', 'first', '--cfg-options', 'train_cfg.max_epochs=1')
    before = {path: path.read_bytes() for path in (tmp_path / 'first').rglob('*') if path.is_file()}
    options = '--work-dir', 'second', '--save-minutes', '10'
    printed = call(tmp_path, 'train.py', f'first/{TINY.name}', *options)
    assert printed.count('step 1 ') == printed.count('12 images; ') == 1
    assert {path: path.read_bytes() for path in (tmp_path / 'first').rglob('*') if path.is_file()} == before
    hooks = Config.fromfile(tmp_path / 'second' / TINY.name).custom_hooks
    kinds = [type_name(hook.type) for hook in hooks]
    assert len(kinds) == len({*kinds}) and hooks[kinds.index('StepCheckpointHook')].minutes == 10
