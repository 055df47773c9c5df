"""DyViT in the toolboxes' own configs, by the changes of docs/your-config.md: loss, gradients, predictions."""

import re

import pytest
from mmengine.config import Config
from stock import STOCK, check, stock, use_dyvit

# Detectors that take maps from the same neck as others that run each time.
SLOW = 'htc', 'reppoints', 'vfnet', 'guided_anchoring', 'pafpn', 'ddod', 'tood', 'gfl', 'sparse_rcnn', 'knet'


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=pytest.mark.slow if re.search(rf':({"|".join(SLOW)})/', name) else ()) for name in STOCK],
)
def test_loss_gradients_predictions(name):
    cfg = Config.fromfile(stock(name))
    use_dyvit(cfg.model)
    cfg.merge_from_dict(dict(model=STOCK[name]))
    check(name.split(':')[0], cfg)


def test_full_size():
    cfg = Config.fromfile(stock('mmdet:mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    use_dyvit(cfg.model)
    check('mmdet', cfg, [(427, 640)], [(427, 640)])
