import json

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from coma_mm.engine import load_exactly


def model(width=4, depth=2):
    return nn.Sequential(nn.BatchNorm1d(width), *(nn.Linear(width, width) for _ in range(depth)))


def test_loads_what_fits():
    source, target = model(), model()
    state = {f'module.{key}': value for key, value in source.state_dict().items()}
    del state['module.0.num_batches_tracked']
    state['data_preprocessor.mean'] = torch.zeros(3)
    load_exactly(target, dict(state_dict=state, meta={}))
    torch.testing.assert_close(target.state_dict(), source.state_dict())
    load_exactly(target, source.state_dict())  # bare


@pytest.mark.parametrize(
    ('other', 'differences'),
    [
        (dict(width=8), [r'8 of other shapes: 0.weight \(8,\) instead of \(4,\), 0.bias']),
        (dict(depth=1), ['missing in the checkpoint: ', '2.weight']),
        (dict(depth=3), ['unknown to the model: ', '3.weight']),
    ],
)
def test_names_the_first_differences(other, differences):
    with pytest.raises(ValueError) as error:
        load_exactly(model(), model(**other).state_dict(), 'some.pth')
    for part in ['some.pth does not fit the model Sequential', *differences]:
        error.match(part)
    assert len(str(error.value)) < 800


@MODELS.register_module()
class Settled(nn.Linear):
    """A backbone with a setting that leaves no trace in its weights."""

    def __init__(self, heads=1, windows=None):
        super().__init__(2, 2)
        self.settings = dict(heads=heads, windows=windows or (4, 8))


@MODELS.register_module()
class OnSettled(BaseModel):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, *args, **kwargs):
        pass


def test_runs_write_settings_into_checkpoints_and_compare_them(tmp_path):
    def build(**options):
        model = dict(type='OnSettled', backbone=dict(type='Settled', **options))
        hooks = [dict(type='coma_mm.BackboneSettingsHook')]
        return Runner.from_cfg(
            dict(model=model, custom_hooks=hooks, work_dir=str(tmp_path), experiment_name=str(options))
        )

    runner, path = build(heads=2), str(tmp_path / 'x.pth')
    checkpoint = dict(state_dict=runner.model.state_dict(), meta={})
    runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    assert json.loads(checkpoint['meta']['backbone']) == dict(type='Settled', heads=2, windows=[4, 8])
    assert checkpoint['meta']['scope'] == 'mmengine'
    torch.save(checkpoint, path)
    runner.load_checkpoint(path)
    build(heads=2, windows=[4, 8]).load_checkpoint(path)
    with pytest.raises(ValueError, match='the checkpoint was trained .* Settled, .*: heads is 2 in the .* and 3 here'):
        build(heads=3).load_checkpoint(path)
    with pytest.raises(ValueError, match=r'it was trained .*: windows is \[4, 8\] in the checkpoint and \[8\] here'):
        load_exactly(build(heads=2, windows=[8]).model, checkpoint, 'it')
