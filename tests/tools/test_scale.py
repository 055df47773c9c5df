"""Sharded training and accumulated batches: the same steps, losses and checkpoints as without them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from noise import write_noise
from processes import TINY, call, refuse
from ranks import on_ranks
from tiny_run import read

from coma_mm.checkpoints.older_names import restore_older
from coma_mm.engine.runner.build import build_runner, require_matching_checkpoint

CONFIGS = Path(__file__).parents[2] / 'configs/pretrain'
SHARDED, WHOLE = (str(CONFIGS / name) for name in ('coma_dyvit-l_fsdp_in1k.py', 'coma_dyvit-l_in1k.py'))
FSDP_ON_CPU = torch.__version__ >= '2.2'  # what 2.1 does not have, the tools say
# Two epochs of two batches in each of two processes, which make one step: every option that sharding might disturb.
OPTIONS = {
    'model.backbone.arch': 'pico',
    'model.backbone.img_size': 64,
    'model.backbone.drop_path_rate': 0.3,
    'model.decoder.dim': 32,
    'model.decoder.depth': 2,
    'model.decoder.num_heads': 4,
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_cfg.max_epochs': 2,
    'default_hooks.checkpoint.interval': 1,
    'optim_wrapper.optimizer.lr': 0.01,
    'optim_wrapper.optimizer.eps': 0.001,  # or the first step takes the sign of gradients, that of zeros too
    'optim_wrapper.accumulative_counts': 2,
    'optim_wrapper.clip_grad.max_norm': 0.05,
    'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.7,
    'param_scheduler.0.start_factor': 0.5,
    'param_scheduler.0.end': 2,
    'auto_scale_lr.base_batch_size': 16,
} | {
    f'train_dataloader.dataset.pipeline.{i}.{key}': 64
    for i, step in enumerate(Config.fromfile(WHOLE).train_dataloader.dataset.pipeline)
    for key in ('scale', 'input_size')
    if key in step
}
ALIGNED = OPTIONS | {'model.evaluation.mode': 'align'}  # it compares the images of all processes


def build(config, path, name, options, launcher='none', resume=None):
    """Return the runner that tools/train.py --auto-scale-lr would start."""
    cfg = read(f'{path}/{name}', options, config=config, launcher=launcher)
    cfg.auto_scale_lr.enable = True
    if resume:
        cfg.resume, cfg.load_from = True, resume
        require_matching_checkpoint(cfg)
    return build_runner(cfg)


def example():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 64, 64, generator=generator), dict(mask=torch.eye(2).bool().expand(2, 2, 2))


def rank(number, path):
    """In one of two processes: the run of the shipped config without sharding, and with it from its first epoch."""
    options = ALIGNED | {'train_dataloader.dataset.data_root': f'{path}/images'}
    build(WHOLE, path, 'whole', options, 'pytorch').train()
    runner = build(SHARDED, path, 'resumed', options, 'pytorch', resume=f'{path}/older_names.pth')
    runner.train()
    total = sum(parameter.numel() for parameter in runner.strategy.unsharded.parameters())
    own = sum(parameter.numel() for parameter in runner.model.parameters())
    moments = sum(state['exp_avg'].numel() for state in runner.optim_wrapper.optimizer.state.values())
    with torch.no_grad():
        losses = runner.model.eval()(*example(), mode='loss')
    torch.save((own / total, moments / total, losses), f'{path}/{number}.pth')
    with pytest.raises(ValueError, match='does not fit the model CoMA .* missing in .*: backbone.patch_embed'):
        runner.strategy.load_model_state_dict({})
    with pytest.raises(ValueError, match="evaluation mode 'ema' keeps a second set of weights"):
        build(SHARDED, path, 'ema', options | {'model.evaluation.mode': 'ema'}, 'pytorch').train()


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A folder with the work dirs of the sharded run, by its tool, and of the runs to compare it with."""
    path = tmp_path_factory.mktemp('scale')
    for i in range(8):
        write_noise(path / f'images/train/{i}.png', (80, 100), seed=i)
    options = [f'{key}={value}' for key, value in ALIGNED.items()]
    options += [f'train_dataloader.dataset.data_root={path}/images']
    args = [SHARDED, 2, '--work-dir', 'sharded', '--auto-scale-lr', '--cfg-options', *options]
    printed = call(path, 'dist_train.sh', *args, succeeds=FSDP_ON_CPU)
    if FSDP_ON_CPU:
        first = load(path / 'sharded/epoch_1.pth')
        torch.save(first | dict(state_dict=restore_older(first['state_dict'])), path / 'older_names.pth')
        on_ranks(2, rank, path)
    return path, printed


def test_fsdp_takes_the_steps_of_ddp_and_resumes_exactly(runs):
    path, printed = runs
    if not FSDP_ON_CPU:
        assert f'error: torch {torch.__version__} has FSDP for GPUs only' in printed
        return
    # 2 processes x 2 images x 2 batches: half of what the rate is for.
    assert 'Scaling the original LR by 0.5' in printed
    sharded, whole, resumed = (load(path / name / 'epoch_2.pth') for name in ('sharded', 'whole', 'resumed'))
    for name, value in whole['state_dict'].items():
        torch.testing.assert_close(sharded['state_dict'][name], value, rtol=0, atol=1e-6, msg=name)
        assert torch.equal(sharded['state_dict'][name], resumed['state_dict'][name]), name
    assert sharded['param_schedulers'] == whole['param_schedulers'] == resumed['param_schedulers']
    for one, other in zip(sharded['optimizer']['param_groups'], whole['optimizer']['param_groups'], strict=True):
        assert one == other
    assert sharded['optimizer']['state'].keys() == whole['optimizer']['state'].keys()
    for number, state in whole['optimizer']['state'].items():
        assert state['step'] == sharded['optimizer']['state'][number]['step'] == 2
        torch.testing.assert_close(
            sharded['optimizer']['state'][number]['exp_avg'], state['exp_avg'], rtol=1e-4, atol=1e-8
        )


def test_fsdp_shards_and_its_checkpoint_is_that_of_a_whole_model(runs):
    path, _ = runs
    if not FSDP_ON_CPU:
        assert not (path / 'sharded').exists()
        return
    cfg = Config.fromfile(SHARDED)
    cfg.merge_from_dict(ALIGNED | {'model.data_preprocessor': None})
    model = MODELS.build(cfg.model)
    model.load_state_dict(load(path / 'sharded/epoch_2.pth')['state_dict'])
    with torch.no_grad():
        expected = model.eval()(*example(), mode='loss')
    fractions = []
    for number in range(2):
        *found, losses = torch.load(path / f'{number}.pth')
        assert found == pytest.approx([0.5, 0.5], abs=0.01)  # of the weights, of the optimizer's moments
        fractions.append(found)
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value, msg=name)
    assert np.sum(fractions, axis=0) == pytest.approx([1, 1], abs=1e-3)


WHOLE_MODEL = 'error: coma_mm.ReconstructionHook needs the whole model in one process'
DRAWING = ['--launcher', 'pytorch', '--cfg-options', 'custom_hooks.0.type=coma_mm.ReconstructionHook']


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ([], f'error: FSDP shards a model over processes; start them with tools/dist_train.sh {SHARDED} GPUS'),
        (DRAWING, WHOLE_MODEL if FSDP_ON_CPU else 'has FSDP for GPUs only'),
    ],
)
def test_what_cannot_be_sharded(monkeypatch, capfd, tmp_path, options, error):
    assert error in refuse(monkeypatch, capfd, tmp_path, 'train.py', SHARDED, *options)
    assert not list(tmp_path.iterdir())


def test_accumulated_batches_are_one_step_on_all_of_them():
    """Steps are of two batches each, the last one of the one that is left."""
    cfg = Config.fromfile(WHOLE)
    cfg.merge_from_dict(OPTIONS | {'model.data_preprocessor': None, 'model.backbone.drop_path_rate': 0})
    images = torch.randn(6, 3, 64, 64, dtype=torch.float64)
    mask = torch.eye(2).bool().expand(6, 2, 2)

    def train(counts, batches):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).double()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper | dict(accumulative_counts=counts))
        wrapper.initialize_count_status(model, 0, len(batches))
        for chosen in batches:
            with wrapper.optim_context(model):
                loss, _ = model.parse_losses(model(images[chosen], dict(mask=mask[chosen]), mode='loss'))
            wrapper.update_params(loss)
        return model.state_dict(), wrapper.optimizer.state

    accumulated, state = train(2, [slice(0, 2), slice(2, 4), slice(4, 6)])
    joined, _ = train(1, [slice(0, 4), slice(4, 6)])
    assert {int(entry['step']) for entry in state.values()} == {2}
    for name, value in joined.items():
        torch.testing.assert_close(accumulated[name], value, rtol=0, atol=1e-12, msg=name)


def test_the_learning_rate_is_scaled_to_all_images_of_a_step(tmp_path):
    options = {
        'optim_wrapper.accumulative_counts': 4,
        'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=2, convert_to_iter_based=True)],
        'custom_hooks': [],
        'default_hooks.checkpoint': None,
    }
    runner = build(str(TINY), tmp_path, 'work', options)
    runner.train()
    optimizer = runner.optim_wrapper.optimizer
    # Four batches of four images, and auto_scale_lr.base_batch_size=16.
    assert optimizer.param_groups[0]['initial_lr'] == pytest.approx(1e-3)
    # Six batches in two epochs: a step after four of them, one after the last two, and the whole warm-up.
    assert {int(state['step']) for state in optimizer.state.values()} == {2}
    assert optimizer.param_groups[0]['lr'] == pytest.approx(1e-3)
    # What others read is the user's.
    assert Config.fromfile(tmp_path / 'work/tiny_coma.py').auto_scale_lr.base_batch_size == 16
    assert runner.cfg.auto_scale_lr.base_batch_size == 16
