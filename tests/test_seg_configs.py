"""Every shipped segmentation config is built whole without memory, and takes a real step with a narrow model."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from narrow import narrow, train
from noise import write_noise

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/seg').glob('*.py'))


def save_scenes(root, part, classes):
    """Write three images of different, odd sizes, and masks with the numbers 0 to ``classes``."""
    for name, size in dict(wide=(83, 131), tall=(117, 75), small=(41, 57)).items():
        write_noise(root / 'images' / part / f'{name}.jpg', size)
        write_noise(root / 'annotations' / part / f'{name}.png', size, classes + 1)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_step(path, tmp_path):
    """Build the config's model as it is on the meta device, then train it on small images.

    For the step the encoder has a fourth of its width and fewer blocks, and mmseg's heads have 32 channels.
    """
    cfg = Config.fromfile(path, format_python_code=False)
    dataset, crop = cfg.train_dataloader.dataset, (40, 72)
    # In ADE20K's masks 0 is no class; in masks of your own it is the first.
    save_scenes(tmp_path, 'training', 150 if dataset.type == 'ADE20KDataset' else 2)
    dataset.data_root = str(tmp_path)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    dataset.pipeline[2].scale, dataset.pipeline[3].crop_size = (256, 64), crop
    cfg.model.data_preprocessor.size = crop
    backbone, heads = cfg.model.backbone, (cfg.model.decode_head, cfg.model.auxiliary_head)
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.out_channels == tuple(heads[0].in_channels)
    assert model.backbone.out_channels[heads[1].in_index] == heads[1].in_channels
    backbone.update(init_cfg=None, arch=dict(narrow(backbone.arch), depths=(1, 1, 2, 1)))
    heads[0].update(in_channels=list(backbone.arch['dims']), channels=32)
    heads[1].update(in_channels=backbone.arch['dims'][heads[1].in_index], channels=32)
    for name in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'val_{name}'] = cfg[f'test_{name}'] = None
    cfg.train_cfg.max_iters = 1
    cfg.default_hooks.checkpoint = None  # a gigabyte each
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'out'), path.stem + tmp_path.name
    runner = train(cfg, 20)
    assert runner.iter == 1 and all(p.requires_grad for p in runner.model.parameters())


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_sizes_agree(path):
    cfg = Config.fromfile(path, format_python_code=False)
    side = int(path.stem.split('-')[-1])
    assert cfg.model.data_preprocessor.size == cfg.model.test_cfg.crop_size == (side, side)
    assert cfg.model.test_cfg.stride == (side * 2 // 3,) * 2
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (4 * side, side)
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == (side, side)
    for dataloader in (cfg.val_dataloader, cfg.test_dataloader):
        assert dataloader.dataset.pipeline[1].scale == (4 * side, side)
    assert cfg.tta_pipeline[1].transforms[0][2].scale == (4 * side, side)
    last = cfg.param_scheduler[-1].end
    assert last == cfg.train_cfg.max_iters and last % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert f'_{last // 1000}k_' in path.stem
