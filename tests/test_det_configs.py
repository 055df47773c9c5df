"""Every shipped detection config is built whole without memory, and takes a real step with a narrow model."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from narrow import narrow, replace, train
from tiny_coco import write_coco

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/det').glob('*.py'))


def shrink(key, value):
    """Return an eighth of sizes of images."""
    if key not in ('scale', 'crop_size'):
        return value
    several = isinstance(value, list)
    sizes = [tuple(side // 8 for side in size) for size in (value if several else [value])]
    return sizes if several else sizes[0]


def thin(key, value):
    """Return 32 for 256 channels of the pyramid and all heads on it, and 64 for 1024 hidden ones."""
    return {256: 32, 1024: 64}.get(value, value) if str(key).endswith('channels') and isinstance(value, int) else value


def prepare(cfg, coco, work_dir, **dataset):
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
            randomness=dict(seed=0),
            model=dict(backbone=dict(init_cfg=None)),
            train_dataloader=dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset),
            train_cfg=dict(max_epochs=1),
            val_cfg=None,
            val_dataloader=None,
            val_evaluator=None,
            default_hooks=dict(checkpoint=None),  # half a gigabyte each
        )
    )
    cfg.train_dataloader.dataset.data_root = f'{coco}/'
    cfg.model.data_preprocessor.pad_size_divisor = min(cfg.model.data_preprocessor.pad_size_divisor, 128)
    replace(cfg.train_dataloader, shrink)
    cfg.model.train_cfg.rpn_proposal.max_per_img = 64  # fewer regions, whose heads take most of the time
    for part in ('neck', 'rpn_head', 'roi_head'):  # what these have of weights is none of ours
        replace(cfg.model[part], thin)
    cfg.model.backbone.arch = narrow(cfg.model.backbone.arch)
    cfg.model.neck.in_channels = list(cfg.model.backbone.arch['dims'])
    rcnn = cfg.model.train_cfg.rcnn
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 16


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    write_coco(root, ['train2017'])
    return root


def step(cfg):
    """Train for an epoch of one iteration; return the runner."""
    runner = train(cfg)
    assert runner.iter == 1
    return runner


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_step(path, coco, tmp_path):
    """Build the config's model as it is on the meta device, then train it on small images.

    For the step the encoder has a fourth of its width, and mmdet's neck and heads have less.
    """
    cfg = Config.fromfile(path, format_python_code=False)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    pretraining = f'configs/pretrain/{Path(cfg.model.backbone.init_cfg.checkpoint).parent.name}.py'
    assert pretraining in path.read_text() and (ROOT / pretraining).is_file()

    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert tuple(cfg.model.neck.in_channels) == model.backbone.out_channels

    prepare(cfg, coco, tmp_path)
    runner = step(cfg)
    assert len(runner.train_dataloader.dataset) == 2  # the config leaves out the photo without annotations
    assert runner.model.backbone.num_blocks == model.backbone.num_blocks
    groups = runner.optim_wrapper.optimizer.param_groups
    assert len({group['lr'] for group in groups}) == runner.model.backbone.num_blocks + 2
    assert {group['weight_decay'] for group in groups} == {0.0, cfg.optim_wrapper.optimizer.weight_decay}


def test_images_without_annotations(coco, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/det/mask-rcnn_dyvit-t_fpn_1x_coco.py', format_python_code=False)
    prepare(cfg, coco, tmp_path, filter_cfg=None, indices=[2, 2])
    step(cfg)


def test_own_classes_of_the_docs(coco, tmp_path):
    text = re.search(r'```python\n(.*?)```', (ROOT / 'docs/detection.md').read_text(), re.S)[1]
    text = text.replace("'./mask", f"'{ROOT}/configs/det/mask").replace("'bolt', 'nut'", "'person', 'dog'")
    (tmp_path / 'config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'config.py', format_python_code=False)
    assert cfg.test_dataloader.dataset.data_root in cfg.test_evaluator.ann_file
    prepare(cfg, coco, tmp_path)
    runner = step(cfg)
    assert runner.train_dataloader.dataset[0]['data_samples'].gt_instances.labels.tolist() == [0, 1]
    assert runner.model.roi_head.bbox_head.fc_cls.out_features == 3
