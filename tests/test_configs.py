"""Every shipped pre-training config is built whole without memory, and takes a real step with a narrow model.

What all configs say of themselves.
"""

import re
import tarfile
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from narrow import narrow, replace, shrink, train
from noise import write_noise
from tiny_cifar import write_archive

from coma_mm.cli.parser import make_parser
from coma_mm.engine.runner.config_files import read_config
from coma_mm.evaluation.flops import count_flops

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/pretrain').glob('*.py'))
EVALUATING = [f'coma_mm.{name}Hook' for name in ('Reconstruction', 'Features', 'Quality', 'Report')]


def make_narrow(model):
    backbone, decoder = model.backbone, model.decoder
    if backbone.type == 'coma_mm.DyViT':
        backbone.arch = narrow(backbone.arch)
    else:
        backbone.arch = dict(embed_dims=96, num_layers=12, num_heads=12, feedforward_channels=384)
    decoder.dim = 64
    if 'num_heads' in decoder:
        decoder.num_heads = 4


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('images') / 'train' / 'sub'
    for i in range(2):
        write_noise(path / f'{i}.png', (80, 100), seed=i)
    with tarfile.open(path.parents[1] / 'train.tar', 'w') as tar:
        tar.add(path)
    return path.parents[1]


def read_variants():
    """Return the options of each row of the table of docs/pretraining.md."""
    page = (ROOT / 'docs/pretraining.md').read_text()
    table = page.split('## Options, by config alone')[1].split('\n## ')[0]
    return re.findall(r'^\|.*\| `((?:model|train).*)` \|$', table, re.M)


def read(name, options=''):
    """Return a config of pre-training with options as typed behind ``--cfg-options``."""
    arguments = ['--cfg-options', *options.split()] if options else []
    options = make_parser('').parse_args([__file__, *arguments]).cfg_options
    return read_config(str(ROOT / f'configs/pretrain/{name}.py'), options)


# The digits take theirs in tests/tools/test_demo.py, where their features are then compared, which takes a while.
@pytest.mark.parametrize(
    'name, options',
    [(path.stem, '') for path in CONFIGS if 'digits' not in path.stem]
    + [('coma_dyvit-b_in1k', options) for options in read_variants()]
    + [('coma_vit-b_in1k', 'model.evaluation.mode=off')],
)
def test_one_step(name, options, folder, tmp_path):
    """Build the config's model as it is on the meta device, then train it on small images.

    For the step the encoder has a fourth of its width, or a plain ViT an eighth, and the decoder 64 channels.
    """
    cfg = read(name, options)
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        whole = MODELS.build(cfg.model)
    make_narrow(cfg.model)
    cfg.work_dir = str(tmp_path)
    if cfg.train_dataloader.dataset.type in ('coma_mm.ImageFolder', 'coma_mm.ImageShards'):
        cfg.train_dataloader.dataset.data_root = str(folder)
        replace(cfg.model, shrink)
        replace(cfg.train_dataloader, shrink)
    elif cfg.train_dataloader.dataset.type == 'coma_mm.CIFAR':
        write_archive(tmp_path / 'cifar.npz')
        cfg.train_dataloader.dataset.update(data_root=str(tmp_path / 'cifar.npz'), indices=2)
        cfg.train_dataloader.sampler.parts = 1
        for hook in cfg.custom_hooks:
            if 'dataset' in hook:
                hook.dataset.data_root = str(tmp_path / 'cifar.npz')
    else:
        cfg.train_dataloader.dataset.length = 2
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.checkpoint = None  # a gigabyte each
    own = (ROOT / f'configs/pretrain/{name}.py').read_text()
    if options or 'custom_hooks' not in own:  # pictures and qualities once, not for each config that inherits them
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type not in EVALUATING]
    cfg.experiment_name = name + tmp_path.name
    runner = train(cfg, 20 if 'mode=frozen' in options else 10)  # a teacher's loss has a weight of 10
    assert runner.iter == 1
    assert {name for name, _ in whole.named_parameters()} == {name for name, _ in runner.model.named_parameters()}


@pytest.mark.parametrize(
    ('folder', 'command', 'known'),
    [
        ('pretrain', 'tools/', ['GPU|CPU|cores']),
        ('cls', 'tools/', ['Hardware: ', 'not run']),
        ('det', 'tools/dist_train.sh configs/det/{} 8', ['Hardware: 8 GPUs', 'not run']),
        ('seg', 'tools/', ['GPU', 'not run']),
    ],
)
def test_docstrings_say_how_to_run_and_what_is_known(folder, command, known):
    for path in (ROOT / 'configs' / folder).glob('*.py'):
        text = path.read_text()
        assert text.startswith('"""'), path.name
        head = text.split('"""')[1]
        assert f'configs/{folder}/{path.name}' in head and command.format(path.name) in head, f'{path.name}: no command'
        assert all(re.search(words, head) for words in known), f'{path.name}: no hardware, or nothing on what is known'


def test_plain_attention_is_compared_at_equal_operations():
    flops = []
    for options in ('', *(options for options in read_variants() if 'msa' in options)):
        cfg = read('coma_dyvit-b_in1k', options).model.backbone
        with torch.device('meta'), torch.no_grad():
            flops.append(count_flops(MODELS.build(cfg), torch.zeros(1, 3, 224, 224)))
    default, plain, equal = flops
    assert equal == pytest.approx(default, rel=0.01)
    assert plain > 1.3 * default
