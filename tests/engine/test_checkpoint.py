import pytest
import torch
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
        (
            dict(width=8),
            [r'8 of other shapes: 0.weight \(8,\) instead of \(4,\), 0.bias .*, ...'],
        ),
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
