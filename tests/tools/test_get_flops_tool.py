import json
import re

import pytest
from processes import TINY, TOOLS
from tiny_run import stock


def test_table_keeps_the_papers_claim_and_is_the_documented_one(perform, tmp_path):
    lines = perform(tmp_path, 'get_flops.py').splitlines()
    assert lines[0].startswith('| variant |') and lines[0].endswith('GMACs with 20 of 49 units |')
    rows = {line.split('`')[1]: [float(cell) for cell in line.split('|')[4:7]] for line in lines[2:]}
    assert list(rows) == ['pico', 'tiny', 'small', 'base', 'large']
    parameters, dense, masked = rows['base']
    assert parameters <= 73 and dense <= 11.77
    assert 0.3 * dense < masked < 0.45 * dense

    # tools/lab/counts.py --json docs/benchmarks/counts.json, then make figures
    tables = json.loads((TOOLS.parent / 'docs/benchmarks/counts.json').read_text())['tables']
    columns = list(tables['variants']['columns'].values())[2:]
    assert rows == {arch: pytest.approx([column[arch] for column in columns], abs=0.006) for arch in rows}
    assert list(tables)[:4] == ['variants', 'references', 'pretraining', 'detection']
    assert list(tables)[4:] == ['segmentation', 'segmentors', 'activations']


@pytest.mark.parametrize(
    ('package', 'config', 'parameters', 'macs'),
    [
        # 17.56 with attention (16.86 without) and 4.1 are what everyone else counts.
        ('mmpretrain', 'vision_transformer/vit-base-p16_32xb128-mae_in1k.py', 85.80, 17.56),
        ('mmdet', 'retinanet/retinanet_r50_fpn_1x_coco.py', 23.51, 4.09),
    ],
)
def test_backbones_of_others(perform, tmp_path, package, config, parameters, macs):
    printed = perform(tmp_path, 'get_flops.py', stock(package, config))
    counted = [float(number) for number in re.findall(r'([\d.]+) (?:M parameters|GMACs)', printed)]
    assert counted == pytest.approx([parameters, macs], abs=0.02)


@pytest.mark.parametrize('option', ['model.evaluation.mode=off', 'model.backbone.in_channels=1'])
def test_pre_training_config(perform, tmp_path, option):
    printed = perform(tmp_path, 'get_flops.py', TINY, '--shape', 48, 96, '--cfg-options', option)
    assert 'at 48 x 96' in printed and 'with 7 of 18 units' in printed and 'forward and backward' in printed
