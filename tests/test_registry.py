"""DyViT is found from any toolbox, in processes that have imported nothing of ours before."""

import subprocess
import sys
from pathlib import Path

import pytest

import coma_mm

# Prefixed without an import line; by its bare name after ``custom_imports``.
BUILD = """
import sys
from mmengine.registry import MODELS, DefaultScope
import {toolbox}.models
from {toolbox}.registry import MODELS as NODE
from mmengine.utils import import_modules_from_strings
DefaultScope.get_instance('test', scope_name='{toolbox}')
assert not any(name.startswith('coma_mm') for name in sys.modules)
for kind in ('coma_mm.DyViT', 'DyViT'):
    if kind == 'DyViT':
        import_modules_from_strings(['coma_mm.models'])
    model = MODELS.build(dict(type=kind, arch='pico', out_indices=(0, 1, 2, 3)))
    assert NODE.get(kind) is type(model)
    print(model.out_channels)
"""

ALONE = """
import sys
for name in 'mmcv mmdet mmseg mmpretrain torchvision cv2 skimage sklearn timm safetensors'.split():
    sys.modules[name] = None
import torch
from mmengine.registry import MODELS
decoder = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
model = MODELS.build(dict(type='coma_mm.CoMA', backbone=dict(type='coma_mm.DyViT', arch='pico'), decoder=decoder))
torch.save(model.state_dict(), {path!r})
from coma_mm.models import DyViT
other = DyViT('p', init_cfg=dict(type='coma_mm.Pretrained', checkpoint={path!r}))
other.init_weights()
print(type(model).__name__, torch.equal(other.patch_embed.weight, model.backbone.patch_embed.weight))
"""

HEAVY = 'torch', 'numpy', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'
WARM_PYTHON = Path(__file__).parent / 'tools/warm_python.py'  # has the toolboxes, and nothing of ours


def run(code, python=sys.executable):
    return subprocess.run([python, '-c', code], capture_output=True, text=True)


@pytest.mark.parametrize('toolbox', ['mmpretrain', 'mmdet', 'mmseg'])
def test_prefixed_without_import_line_and_bare_after_custom_imports(toolbox):
    done = run(BUILD.format(toolbox=toolbox), WARM_PYTHON)
    assert done.stdout.split('\n')[-3:] == ['(32, 64, 128, 256)', '(32, 64, 128, 256)', ''], done.stderr[-2000:]


def test_models_need_torch_and_mmengine_only(tmp_path):
    """With all toolboxes out of reach: an ImportError on this path would surface as 'not in the registry'."""
    done = run(ALONE.format(path=str(tmp_path / 'weights.pth')))
    assert done.stdout.endswith('CoMA True\n'), done.stderr[-2000:]


def test_public_names_are_imported_on_first_use():
    done = run(f'import sys, coma_mm; print({{*{HEAVY!r}}} & {{*sys.modules}}, *dir(coma_mm))')
    assert done.stdout.startswith('set() '), done.stderr[-2000:]
    names = ['DyViT', 'CoMA', 'MaskedViT']
    assert {*names} <= set(done.stdout.split()) and [getattr(coma_mm, name).__name__ for name in names] == names
    assert not hasattr(coma_mm, 'Nothing')
