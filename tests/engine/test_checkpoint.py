import pytest
import torch
from torch import nn

from coma_mm.engine import AutocastOptimWrapper, load_exactly


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


@pytest.mark.parametrize(('cpu', 'dtype'), [(False, torch.float32), (True, torch.bfloat16)])
def test_autocast_only_where_asked_on_the_cpu(cpu, dtype):
    net = nn.Linear(2, 2)
    wrapper = AutocastOptimWrapper(cpu=cpu, optimizer=torch.optim.SGD(net.parameters(), lr=1.0))
    with wrapper.optim_context(net):
        out = net(torch.ones(1, 2))
    assert out.dtype == dtype
    before = net.weight.clone()
    wrapper.update_params(out.float().sum())
    torch.testing.assert_close(net.weight, before - 1)


def test_autocast_of_some_modules_only():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    wrapper = AutocastOptimWrapper(cpu=True, modules=['0'], optimizer=torch.optim.SGD(net.parameters(), lr=1.0))
    x, seen = torch.tensor([[1.01, 3.03]]), []
    net[0].register_forward_hook(lambda module, args, out: seen.append(out))
    with wrapper.optim_context(net):
        out = net(x)
    assert seen[0].dtype == out.dtype == torch.float32
    assert torch.equal(
        seen[0], nn.functional.linear(x.bfloat16(), *(p.bfloat16() for p in net[0].parameters())).float()
    )
    assert torch.equal(out, net[1](seen[0]))
    assert not torch.equal(net(x), out)  # in fp32 again
