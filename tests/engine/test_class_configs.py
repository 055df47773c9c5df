"""Configs of classes in place of names do all that others do."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_run import read

import coma_mm
from coma_mm.engine import AutocastOptimWrapper
from coma_mm.engine.runner.build import build_runner, enable_mixed_precision

CONFIG = str(Path(__file__).with_name('class_coma.py'))
SHARDED = {'strategy.type': 'coma_mm.FSDPStrategy', 'runner_type': 'FlexibleRunner'}


def test_training_in_mixed_precision(tmp_path):
    cfg = read(tmp_path / 'work', {}, config=CONFIG)
    assert cfg.optim_wrapper.type is AutocastOptimWrapper
    enable_mixed_precision(cfg)
    assert cfg.optim_wrapper.cpu
    runner = build_runner(cfg)
    runner.train()
    assert (tmp_path / 'work' / 'reconstruction.png').is_file()
    # Its checkpoint says what it is of, as those of other configs do.
    backbone = coma_mm.load_backbone(tmp_path / 'work' / 'epoch_1.pth')
    assert backbone.settings == runner.model.backbone.settings
    assert torch.equal(backbone.patch_embed.weight, runner.model.backbone.patch_embed.weight)


def test_sharding(tmp_path, monkeypatch):
    whole = 'ReconstructionHook needs the whole model in one process'
    with pytest.raises(ValueError, match='has FSDP for GPUs only' if torch.__version__ < '2.2' else whole):
        read(tmp_path, SHARDED, config=CONFIG, launcher='pytorch')
    if torch.__version__ < '2.2':
        return
    monkeypatch.setenv('LOCAL_RANK', '0')
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    try:
        build_runner(
            read(tmp_path / 'work', SHARDED | dict(custom_hooks=[]), config=CONFIG, launcher='pytorch')
        ).train()
    finally:
        torch.distributed.destroy_process_group()
    assert coma_mm.load_backbone(tmp_path / 'work' / 'epoch_1.pth').img_size == (48, 48)


def test_what_reads_configs_knows_classes(tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.train_dataloader.dataset.pipeline[1].input_size = 64
    cfg.dump(tmp_path / 'config.py')  # with dotted names
    for config in (cfg, Config.fromfile(tmp_path / 'config.py')):
        config.work_dir = str(tmp_path)
        with pytest.raises(ValueError, match='pre-training has images of one size'):
            build_runner(config)
