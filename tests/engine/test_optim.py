"""Mixed precision: which type on which device, and the loss scale of fp16. On the CPU, where fp16 is slow, but fp16."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import AmpOptimWrapper
from torch import nn

from coma_mm.engine import AutocastOptimWrapper
from coma_mm.engine.runner.build import enable_mixed_precision
from coma_mm.utils.environment import fast_dtype


@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('cpu', [False, True])
def test_autocast_on_the_cpu_where_asked_and_fast(cpu, fast, monkeypatch):
    monkeypatch.setattr('coma_mm.engine.optimizers.autocast.has_fast_bf16', lambda: fast)
    dtype = torch.bfloat16 if cpu and fast else torch.float32
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
    wrapper = AutocastOptimWrapper(dtype='bfloat16', modules=['0'], optimizer=torch.optim.SGD(net.parameters(), lr=1.0))
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
    assert 'forward' not in vars(net[0])
    net[0].forward = own = lambda x: 2 * x  # of another library
    with wrapper.optim_context(net):
        assert torch.equal(net[0](x), 2 * x)
    assert net[0].forward is own


@pytest.mark.parametrize(
    ('device', 'expected'),
    [
        ((9, 0), 'bfloat16'),
        ((8, 0), 'bfloat16'),
        ((7, 5), 'float16'),  # T4
        ((7, 0), 'float16'),  # V100
        ((6, 1), 'float32'),
        (None, 'float32'),
    ],
)
def test_the_type_that_is_fast(device, expected):
    assert fast_dtype(device) == expected
    assert fast_dtype(device, cpu=True) == ('bfloat16' if device is None else expected)


def wrap(net, dtype='float16', **options):
    return AutocastOptimWrapper(dtype=dtype, optimizer=torch.optim.SGD(net.parameters(), lr=1.0), **options)


def refused_by_this_torch():
    """Say whether torch has fp16 for GPUs only, and check that we say so."""
    if hasattr(torch.amp, 'GradScaler'):
        return False
    with pytest.raises(ValueError, match='float16 on a CPU needs torch 2.3 or later'):
        wrap(nn.Linear(2, 1))
    return True


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.5)])
@pytest.mark.parametrize('counts', [1, 2])
def test_fp16_takes_the_steps_of_fp32(clip_grad, counts):
    if refused_by_this_torch():
        return
    torch.manual_seed(0)
    nets = [nn.Linear(4, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, dtype in zip(nets, ('float16', 'float32')):
        wrapper = wrap(net, dtype, clip_grad=clip_grad and dict(clip_grad), accumulative_counts=counts)
        if wrapper.loss_scaler:  # the first scale is too high on purpose, and steps would be left out until it fits
            wrapper.loss_scaler.load_state_dict(wrapper.loss_scaler.state_dict() | dict(scale=256.0))
        for x in torch.linspace(-1, 1, 16).view(4, 1, 4):
            with wrapper.optim_context(net):
                loss = net(x).float().square().mean()
            wrapper.update_params(loss)
    torch.testing.assert_close(nets[0].weight, nets[1].weight, atol=5e-3, rtol=0)
    assert wrapper.loss_scaler is None


def test_gradients_that_overflow_are_no_step_but_lower_the_scale():
    if refused_by_this_torch():
        return
    net = nn.Linear(2, 1)
    wrapper, before = wrap(net, clip_grad=dict(max_norm=1.0)), net.weight.clone()
    wrapper.update_params(net(torch.full((1, 2), 1e38)).sum())
    assert torch.equal(net.weight, before)
    assert wrapper.state_dict()['loss_scaler']['scale'] == 2.0**15
    wrapper.update_params(net(torch.ones(1, 2)).sum())
    assert not torch.equal(net.weight, before) and net.weight.isfinite().all()


def test_the_scale_is_in_the_checkpoint_and_read_by_runs_in_any_type():
    if refused_by_this_torch():
        return
    net = nn.Linear(2, 1)
    scaled = wrap(net)
    scaled.loss_scaler.load_state_dict(scaled.loss_scaler.state_dict() | dict(scale=8.0))
    state = scaled.state_dict()
    again = wrap(net)
    again.load_state_dict(state)
    assert again.loss_scaler.get_scale() == 8
    plain = wrap(net, 'bfloat16')
    plain.load_state_dict(state)
    assert 'loss_scaler' not in plain.state_dict()
    again.load_state_dict(plain.state_dict())
    assert 'loss_scaler' in state  # what was handed over is left as it was


@pytest.mark.parametrize(
    ('wrapper', 'on_gpu', 'on_cpu'),
    [
        (dict(optimizer=1), dict(type='AmpOptimWrapper', loss_scale='dynamic'), 'needs a GPU'),
        (dict(type='mmengine.OptimWrapper', optimizer=1), dict(type='AmpOptimWrapper', loss_scale='dynamic'), 'a GPU'),
        (dict(type='AmpOptimWrapper', dtype='float16', optimizer=1), {}, {}),
        (dict(type=AmpOptimWrapper, optimizer=1), {}, {}),
        (dict(type='coma_mm.AutocastOptimWrapper', optimizer=1), dict(cpu=True), dict(cpu=True)),
        (dict(type=AutocastOptimWrapper, optimizer=1), dict(cpu=True), dict(cpu=True)),
        (dict(type='ApexOptimWrapper', optimizer=1), 'not optim_wrapper.type=', 'not optim_wrapper.type='),
        (None, 'has no optim_wrapper', 'has no optim_wrapper'),
    ],
)
@pytest.mark.parametrize('gpu', [True, False])
def test_amp_option(monkeypatch, wrapper, on_gpu, on_cpu, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = ConfigDict(optim_wrapper=wrapper, filename='c.py')
    expected = on_gpu if gpu else on_cpu
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f'.*{expected}'):
            enable_mixed_precision(cfg)
        return
    enable_mixed_precision(cfg)
    assert cfg.optim_wrapper == wrapper | expected


def test_amp_option_of_several_optimizers_and_of_shards(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    parts = dict(a=dict(optimizer=1), b=dict(type='coma_mm.AutocastOptimWrapper', optimizer=2))
    cfg = ConfigDict(optim_wrapper=dict(constructor='Two', **parts), strategy=dict(type='FSDPStrategy'))
    enable_mixed_precision(cfg)
    amp = dict(type='AmpOptimWrapper', loss_scale='dynamic', use_fsdp=True)
    assert cfg.optim_wrapper == dict(constructor='Two', a=parts['a'] | amp, b=parts['b'] | dict(cpu=True))
