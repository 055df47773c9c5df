"""Every shipped segmentation config takes one real optimiser step; only the images and their sizes are changed."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from coma_mm.models.dyvit import ARCHITECTURES

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/seg').glob('*.py'))


def save_scenes(root, part, classes):
    """Write three images of different, odd sizes, and masks with the numbers 0 to ``classes``."""
    rng = np.random.default_rng(0)
    for name, shape in dict(wide=(83, 131), tall=(117, 75), small=(41, 57)).items():
        for folder, suffix, numbers in (('images', 'jpg', (256, 3)), ('annotations', 'png', (classes + 1,))):
            path = root / folder / part / f'{name}.{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(numbers[0], size=(*shape, *numbers[1:]), dtype=np.uint8)).save(path)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_step(path, tmp_path):
    cfg = Config.fromfile(path)
    dataset, crop = cfg.train_dataloader.dataset, (40, 72)
    # In ADE20K's masks 0 is no class; in masks of your own it is the first.
    save_scenes(tmp_path, 'training', 150 if dataset.type == 'ADE20KDataset' else 2)
    dataset.data_root = str(tmp_path)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    dataset.pipeline[2].scale, dataset.pipeline[3].crop_size = (256, 64), crop
    cfg.model.data_preprocessor.size = crop
    # The heads must fit the widths; depth only costs seconds.
    backbone = cfg.model.backbone
    backbone.update(init_cfg=None, arch=dict(ARCHITECTURES[backbone.arch], depths=(1, 1, 2, 1)))
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = (
        None
    )
    cfg.train_cfg.max_iters = 1
    cfg.default_hooks.checkpoint = None  # a gigabyte each
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'out'), path.stem + tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    loss = runner.message_hub.get_scalar('train/loss').current()
    assert np.isfinite(loss) and 0 < loss < 20
    assert runner.iter == 1
    stepped = runner.optim_wrapper.optimizer.state
    assert not [name for name, p in runner.model.named_parameters() if p not in stepped]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_sizes_agree(path):
    cfg = Config.fromfile(path)
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


def test_docstrings_say_how_to_run_and_what_is_known():
    for path in CONFIGS:
        head = path.read_text().split('"""')[1]
        assert f'configs/seg/{path.name}' in head and 'tools/' in head, f'{path.name}: no command'
        assert 'GPU' in head and 'not run' in head, f'{path.name}: no hardware, or nothing on what is known'
