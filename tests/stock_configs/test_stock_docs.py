"""Promises of docs, error messages and ``paramwise_cfg`` to users of the toolboxes' own configs."""

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.utils import is_installed
from stock import STOCK, build, check, stock, use_dyvit

from coma_mm.cli.parser import make_parser
from coma_mm.engine.runner.config_files import read_config

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / 'docs/your-config.md').read_text()


@pytest.mark.parametrize(
    'name',
    [
        'mmdet:retinanet/retinanet_r50_fpn_1x_coco.py',
        'mmdet:yolof/yolof_r50-c5_8xb8-1x_coco.py',
        'mmdet:dino/dino-4scale_r50_8xb2-12e_coco.py',
        'mmdet:maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
        'mmdet:mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
        'mmseg:maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
        'mmseg:mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py',
        'mmseg:ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py',
    ],
)
def test_following_the_advice_is_enough(name):
    """Nothing but the backbone is exchanged; each error says what to set next."""
    cfg = Config.fromfile(stock(name))
    stages = cfg.model.backbone.get('out_indices', range(4))
    cfg.merge_from_dict(dict(model=STOCK[name]))
    cfg.model.backbone = dict(type='coma_mm.DyViT', arch='pico', out_indices=list(stages), attn_window=2)
    cfg.model.pop('pretrained', None)
    given = []
    while len(given) < 3:
        try:
            build(name.split(':')[0], cfg)
            break
        except ValueError as error:
            given.append(str(error).partition('; set ')[2])
            cfg.merge_from_dict(make_parser('').parse_args([__file__, '--cfg-options', *given[-1].split()]).cfg_options)
    assert given
    check(name.split(':')[0], cfg)


# Of some configs: part of a parameter's name, the factors that paramwise_cfg has for its rate and weight decay.
FACTORS = {
    'mmdet:dino/dino-4scale_r50_8xb2-12e_coco.py': ('backbone.stages.1.blocks.0.mlp.0.weight', 0.1, 1.0),
    'mmdet:deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': ('sampling_offsets.weight', 0.1, 1.0),
    'mmdet:maskformer/maskformer_r50_ms-16xb1-75e_coco.py': ('query_embed.weight', 1.0, 0.0),
    'mmdet:vfnet/vfnet_r50_fpn_1x_coco.py': ('vfnet_reg.bias', 2.0, 0.0),
    'mmseg:mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': ('backbone.patch_embed.weight', 0.1, 1.0),
    'mmseg:segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py': ('decode_head.conv_seg.weight', 10.0, 1.0),
}


@pytest.mark.parametrize('name', FACTORS)
def test_own_factors_times_the_layers_scale(name):
    cfg = Config.fromfile(stock(name))
    use_dyvit(cfg.model)
    cfg.merge_from_dict(dict(model=STOCK[name]))
    model = build(name.split(':')[0], cfg)
    lr, weight_decay = cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay
    theirs, _ = settings(model, cfg)
    cfg.merge_from_dict({'optim_wrapper.constructor': 'coma_mm.LayerDecayOptimWrapperConstructor'})
    cfg.merge_from_dict({'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.8})
    ours, groups = settings(model, cfg)
    assert ours.keys() == theirs.keys() and groups <= 4 * (model.backbone.num_blocks + 2)
    for key, parameter in model.named_parameters():
        depth, depths = model.backbone.get_layer_depth(key, 'backbone.')
        assert ours[key][0] == pytest.approx(theirs[key][0] * 0.8 ** (depths - 1 - depth))
        if ours[key][1] != theirs[key][1]:
            assert parameter.ndim < 2 and (ours[key][1], theirs[key][1]) == (0, weight_decay)
    part, rate, decay = FACTORS[name]
    chosen = [value for key, value in theirs.items() if part in key]
    assert chosen and all(value == pytest.approx((rate * lr, decay * weight_decay)) for value in chosen)


def settings(model, cfg):
    """Return learning rate and weight decay of each parameter, and the number of groups."""
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    values = {parameter: (group['lr'], group['weight_decay']) for group in groups for parameter in group['params']}
    return {name: values[p] for name, p in model.named_parameters() if p.requires_grad}, len(groups)


@pytest.mark.parametrize('text', re.findall(r'```python\n(.*?)```', DOCS, re.S))
def test_config_files_of_the_docs(text, tmp_path):
    package, base = re.search(r"_base_ = '(\w+)::(.*)'", text).groups()
    (tmp_path / 'config.py').write_text(text.replace(f'{package}::{base}', str(stock(f'{package}:{base}'))))
    cfg = Config.fromfile(tmp_path / 'config.py')
    model = check(package, cfg)
    if package != 'mmpretrain':
        decays(model, cfg)


def test_a_name_that_the_fork_does_not_know(tmp_path):
    (tmp_path / 'config.py').write_text("_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'\n")
    refused = pytest.raises(ValueError, match='onedl-mmsegmentation has no mmseg::...; give the path of that file')
    with nullcontext() if is_installed('mmsegmentation') else refused:  # the original finds its configs by name
        assert read_config(str(tmp_path / 'config.py')).model.type == 'EncoderDecoder'


def command_lines():
    """Return the arguments of each ``tools/train.py``, and replace the variables as the shell would."""
    common, commands = re.findall(r'```bash\n(.*?)```', DOCS, re.S)
    common = re.search(r'DYVIT=\((.*?)\)', common, re.S)[1]
    lines = commands.replace('\\\n', ' ').replace('"${DYVIT[@]}"', ' '.join(common.split())).splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith('tools/train.py')]
    slow = 'atss_r50_fpn_dyhead', 'ocrnet', 'pspnet', 'yolof'  # whose advice or kin runs each time
    names = [Path(command[1]).stem for command in commands]
    return [
        pytest.param(command, id=name, marks=pytest.mark.slow if name.startswith(slow) else ())
        for command, name in zip(commands, names)
    ]


@pytest.mark.parametrize('command', command_lines())
def test_command_lines_of_the_docs(command):
    where, _, path = command[1].removeprefix('$').partition('/')
    package, name = where.lower(), f'{where.lower()}:{path}'
    cfg = read_config(stock(name), make_parser('').parse_args([str(stock(name)), *command[2:]]).cfg_options)
    assert 'depth' not in cfg.model.backbone and cfg.optim_wrapper.optimizer.type == 'AdamW'
    cfg.merge_from_dict(dict(model=STOCK.get(name, {})))
    decays(check(package, cfg), cfg)


def decays(model, cfg):
    """Check that the learning rate decays with the depth."""
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert len({group['lr'] for group in groups}) >= model.backbone.num_blocks + 2
