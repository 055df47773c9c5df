"""kNN evaluation of a pre-training checkpoint, as its users call it."""

import re

import pytest
from mmengine.config import Config
from noise import write_noise
from processes import TINY, TOOLS, call
from tiny_run import save_tiny

from coma_mm.engine.runner.build import build_runner, require_matching_checkpoint

CONFIG = """
_base_ = {base!r}
model = dict(backbone=dict(_delete_=True, **{backbone!r}))
pipeline = [dict(type='coma_mm.LoadImage'), dict(type='PackInputs')]
loader = dict(batch_size=8, num_workers=0, dataset=dict(data_root={data!r}, pipeline=pipeline))
test_dataloader = loader
test_cfg = dict(bank=loader)
test_evaluator = dict(k=(1, 3, 5))
"""


def test_knn_on_two_ranks_is_that_on_one(tmp_path):
    """With numbers of images that the ranks have to fill up: 31 to compare with, 19 to classify."""
    save_tiny(tmp_path / 'epoch_1.pth')
    for part, numbers in (('train', range(31)), ('val', range(31, 50))):
        for number in numbers:
            write_noise(tmp_path / 'data' / part / 'abc'[number % 3] / f'{number}.png', seed=100 + number)
    base = str(TOOLS.parent / 'configs/cls/knn_dyvit-b_folder.py')
    backbone = Config.fromfile(TINY).model.backbone.to_dict()
    (tmp_path / 'knn.py').write_text(CONFIG.format(base=base, backbone=backbone, data=str(tmp_path / 'data')))

    cfg = Config.fromfile(tmp_path / 'knn.py')
    cfg.load_from, cfg.work_dir = str(tmp_path / 'epoch_1.pth'), str(tmp_path / 'one')
    require_matching_checkpoint(cfg)
    expected = build_runner(cfg).test()
    assert list(expected) == ['knn/top1_k1', 'knn/top1_k3', 'knn/top1_k5'] and len(set(expected.values())) > 1

    printed = call(tmp_path, 'dist_test.sh', 'knn.py', 'epoch_1.pth', 2)
    found = {name: float(value) for name, value in re.findall(r'(knn/top1_k\d+): ([\d.]+)', printed)}
    assert found == pytest.approx(expected, abs=1e-3)
