"""Constructors refuse wrong arguments before anything is computed: rows of arguments and words of the errors."""

import re

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS

import coma_mm  # noqa: F401, the registries' names

PICO = dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2)
VIT = dict(type='coma_mm.MaskedViT', arch='deit-tiny')
DECODER = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
SGD = torch.optim.SGD([torch.ones(1)], 0.1)


def arch(dims=32, depths=1, heads=4):
    given = dict(dims=dims, depths=depths, heads=heads)
    return dict(arch={name: value if isinstance(value, list) else [value] * 4 for name, value in given.items()})


def evaluation(**options):
    return dict(evaluation=options)


# What is built with arguments that are right, and wrong ones with words of what is said of them.
TABLE = [
    (MODELS, PICO, [
        (dict(arch='hugee'), "unknown arch 'hugee'; choose from pico, tiny, small, base, large"),
        (dict(arch='bas'), "did you mean 'base'?"),
        (dict(arch=3), 'arch needs dims, depths and heads with four entries each, got 3'),
        (arch(dims=32.0), "arch['dims'][0] must be a whole"),
        (arch(dims=34, heads=2), 'must be a multiple of 4'),
        (arch(depths=0), "arch['depths'][0] must be a whole"),
        (arch(depths=[1, 1, 9999999, 1]), 'from 1 to 1000, got 9999999'),
        (arch(heads=[4, 8, 5, 4]), '5 attention heads do not'),
        (dict(img_size=0), 'img_size must be a number of pixels >= 1, or (height, width), got 0'),
        (dict(img_size='224'), "img_size must be a number of pixels >= 1, or (height, width), got '224'"),
        (dict(patch_size=0), 'patch_size must be a whole number >= 1, got 0'),
        (dict(patch_size=2.0), 'patch_size must be a whole number >= 1, got 2.0'),
        (dict(in_channels='3'), "in_channels must be a whole number >= 1, got '3'"),
        (dict(out_indices=3), 'out_indices must be a list of numbers from 0 to 3, got 3; one is [3]'),
        (dict(out_indices=(2.0,)), 'out_indices must be numbers from 0 to 3, got (2.0,)'),
        (dict(out_indices=(0, 4)), 'out_indices must be numbers from 0 to 3, got (0, 4)'),
        (dict(out_indices=()), 'out_indices must be numbers from 0 to 3, got ()'),
        (dict(compile='yes'), "compile must be True, False or a dict of options of torch.compile, got 'yes'"),
        (dict(windows=[[[4.0, 8]], 2, None, None]), 'window 4.0 (of a head with windows (4.0, 8)) does not'),
        (dict(windows=[4.0, 2, None, None]), 'window 4.0 (of a head with windows (4.0,)) does not'),
        (dict(windows=[[(4, 'a')], 2, None, None]), 'window a (of a head with windows (4, '),
        (dict(windows=[[(4, 4)], 2, None, None]), 'one window or several different ones, got (4, 4)'),
        (dict(windows=[(2, 4), 2, None, None]), 'stage 1 has 4 heads but 2 windows (2, 4)'),
        (dict(windows=[3, 2, None, None]), 'does not divide a mask unit'),
        (dict(windows=[4, 8, None, None]), '4 x 4 tokens'),
        (dict(windows=[4, [()], None, None]), 'one window or several'),
        (dict(kv_conv='pool'), "'depthwise', 'averaged', 'dense', got 'pool'"),
        (dict(windows=[[4]]), 'windows must have one entry for each of four stages'),
        (dict(windows=4), 'windows must have one entry for each of four stages'),
        (dict(attention='msa'), "attention must name 'dm_msa' or 'msa' for each of four stages"),
        (dict(attention=['swin'] * 4), "attention must name 'dm_msa' or 'msa' for each of four stages"),
        (dict(attention=['dm_msa'] * 4), 'stage 3 uses dm_msa but has no windows'),
        (dict(mlp_ratio=-4), 'mlp_ratio must be a number > 0, got -4'),
        (dict(mlp_ratio=0.001), 'mlp_ratio times the channels must be a whole number >= 1, got 0'),
        (dict(qkv_bias='no'), "qkv_bias must be True or False, got 'no'"),
        (dict(drop_path_rate=-0.1), 'drop_path_rate must be a number >= 0 and < 1, got -0.1'),
        (dict(drop_path_rate=1), 'drop_path_rate must be a number >= 0 and < 1, got 1'),
        (dict(layer_scale=float('nan')), 'layer_scale must be a number'),
        (dict(attn_window=0), 'attn_window must be a whole number >= 1, got 0'),
        (dict(global_window=3), 'global_window must be 1, 2, 4 or 8'),
        (dict(attn_window=7, global_blocks=[99]), 'global_blocks must be numbers from 0 to 6, got (99,)'),
        (dict(attn_window=7, global_blocks=6), 'global_blocks must be a list of numbers'),
        (dict(frozen_stages=1.0), 'frozen_stages must be -1 (none) to 4 (all), got 1.0'),
        (dict(frozen_stages=9), 'frozen_stages must be -1 (none) to 4 (all), got 9'),
        (dict(pretrained='a.pth', init_cfg=dict(type='Constant')), 'either `pretrained` or `init_cfg`'),
    ]),
    (MODELS, VIT, [(dict(patch_size=0), 'patch_size must be a whole')]),
    (MODELS, DECODER | dict(in_channels=64, out_channels=3072), [
        (dict(depth=0), 'depth must be a whole number from 1 to 1000, got 0'),
        (dict(dim=30, num_heads=2), 'dim must be a multiple of 4'),
        (dict(num_heads=5), '5 attention heads do not divide 32 channels evenly'),
        (dict(in_channels=[64, 0]), 'in_channels[1] must be a whole number >= 1, got 0'),
        (dict(type='coma_mm.ConvNeXtDecoder', num_heads=None, kernel_size=4), 'must be odd'),
    ]),
    (MODELS, dict(type='coma_mm.FeatureExtractor', backbone=PICO), [
        (dict(pool='meen'), "pool must be one of mean, stats, flat, got 'meen'; did you mean"),
    ]),
    (MODELS, dict(type='coma_mm.CoMA', backbone=PICO, decoder=DECODER), [
        (dict(norm_pix='False'), "norm_pix must be True or False, got 'False'"),
        (evaluation(mode='copie'), "one of copy, ema, off, align, frozen, got 'copie'; did you mean 'copy'?"),
        (evaluation(intervall=2), "not 'intervall'; did you mean 'interval'?"),
        (evaluation(interval=1.5), 'evaluation interval must be a whole number >= 1, got 1.5'),
        (evaluation(mode='off', interval=2), 'goes with copy, ema and align only'),
        (evaluation(mode='ema', momentum=2), 'evaluation momentum must be a number > 0 and < 1, got 2'),
        (evaluation(mode='copy', momentum=0.1), "momentum goes with mode='ema' or 'align' only"),
        (evaluation(mode='align', weight=0), 'evaluation weight must be a number'),
        (evaluation(mode='align', jitter=2), 'evaluation jitter must be a number'),
        (evaluation(mode='off', weight=1.0, jitter=0), "evaluation weight, jitter goes with mode='align'"),
        (evaluation(mode='off') | dict(predict_visible=-1), 'predict_visible must be a number >= 0'),
        (dict(predict_visible=1.0), 'predict_visible goes with evaluation mode off, align, frozen only'),
        (dict(backbone=VIT, fuse_stages=True), 'fuse_stages=True needs an encoder of several stages; MaskedViT'),
        (dict(backbone=PICO | dict(attn_window=7)), 'attn_window'),
        (dict(decoder=DECODER | dict(in_channels=100)), 'decoder.in_channels=(100,) does not fit the backbone'),
        (dict(decoder=DECODER | dict(out_channels=9)), 'which means 768: leave it out of the config'),
    ]),
    (TRANSFORMS, dict(type='coma_mm.ComplementaryMask', input_size=64, unit_size=16), [
        (dict(input_size=60), 'is no whole number of 16 px units: use (48, 48) or (64, 64)'),
        (dict(input_size='64'), "input_size must be a number of pixels >= 1, or (height, width), got '64'"),
        (dict(unit_size=0), 'unit_size must be a whole number >= 1, got 0'),
        (dict(ratio=1.0), 'a mask ratio of 1.0 over 16 units leaves a branch without units'),
        (dict(ratio='0.6'), "ratio must be a number, got '0.6'"),
        (dict(strategy='stratifed'), "did you mean 'stratified'?"),
        (dict(strategy='block'), "unknown mask strategy 'block': choose one of ['random', 'stratified']"),
    ]),
    (TRANSFORMS, dict(type='coma_mm.LoadImage'), [
        (dict(channels=0), 'channels must be a whole number >= 1, got 0'),
        (dict(value_range=4095), 'value_range must be a smallest and a largest'),
        (dict(value_range=(5, 5)), 'value_range must have two different values'),
    ]),
    (TRANSFORMS, dict(type='coma_mm.LoadRandomResizedCrop', scale=32), [
        (dict(scale=-32), 'scale must be a number of pixels >= 1, or (height, width), got -32'),
        (dict(crop_ratio_range=0.2), 'crop_ratio_range must be a smallest and a largest value, got 0.2'),
        (dict(crop_ratio_range=(0, 1)), 'crop_ratio_range[0] must be a number > 0 and <= 1, got 0'),
        (dict(crop_ratio_range=(1, 0.5)), 'crop_ratio_range must have the smallest value first'),
        (dict(aspect_ratio_range=(2, 1)), 'aspect_ratio_range must have the smallest value first, got (2, 1)'),
    ]),
    (DATASETS, dict(type='coma_mm.Photos'), [
        (dict(names='coffee'), 'names must be a list of photos among'),
        (dict(names=[]), 'names must be a list of photos among'),
        (dict(names=['lena']), "unknown photo 'lena': choose among ['astronaut'"),
        (dict(length=0), 'length must be a whole number >= 1, got 0'),
    ]),
    (DATASETS, dict(type='coma_mm.Digits'), [(dict(size=0), 'size must be a whole number >= 1, got 0')]),
    (DATASETS, dict(type='coma_mm.ImageFolder', data_root='x'), [
        (dict(max_unreadable=5), 'max_unreadable must be a number'),
        (dict(extensions='.jpg'), 'extensions must be a list'),
        (dict(part='test'), "part must be 'train', 'val' or None, got 'test'"),
    ]),
    (DATASETS, dict(type='coma_mm.ImageShards', data_root='x'), [(dict(extensions=()), 'extensions must be a list')]),
    (DATA_SAMPLERS, dict(type='coma_mm.PartSampler', dataset=[1]), [(dict(parts=0), 'parts must be a whole number')]),
    (METRICS, dict(type='coma_mm.KNN'), [
        (dict(k=0), 'k[0] must be a whole number >= 1, got 0'),
        (dict(k=()), 'k must be one number of neighbours or several, got none'),
        (dict(temperature=0), 'temperature must be a number > 0, got 0'),
    ]),
    (HOOKS, dict(type='coma_mm.StopOnNaNHook'), [(dict(interval=0), 'interval must be a whole number >= 1, got 0')]),
    (HOOKS, dict(type='coma_mm.DataTimeHook'), [(dict(share=20), 'share must be a number from 0 to 1, got 20')]),
    (HOOKS, dict(type='coma_mm.ReconstructionHook'), [
        (dict(num_images=0), 'num_images must be a whole number >= 1'),
        *(
            (dict(out=out), 'out must be a name in the work dir that ends in .png')
            for out in ('x.xyz', '../x.png', 'a/../../x.png', '/x.png')
        ),
    ]),
    (HOOKS, dict(type='coma_mm.BudgetHook', minutes=5), [
        (dict(minutes=0), 'minutes must be a number'),
        (dict(minutes='x'), 'minutes must be a number'),
        (dict(planned=0), 'planned must be a whole number'),
    ]),
    (HOOKS, dict(type='coma_mm.KNNHook', data=dict(type='x')), [(dict(train_fraction=1), 'a number > 0 and < 1')]),
    (HOOKS, dict(type='coma_mm.KNNHook'), [(dict(train=dict(type='x')), 'either `data`, or `train` and `val`')]),
    (HOOKS, dict(type='coma_mm.FinishedHook'), [(dict(text='{chekpoint}'), 'text of FinishedHook must be a text')]),
    (OPTIM_WRAPPERS, dict(type='coma_mm.AutocastOptimWrapper', optimizer=SGD), [
        (dict(modules='backbone'), "modules must be a list of names, got 'backbone'; one is ['backbone']"),
        (dict(dtype='fp16'), "dtype must be 'bfloat16', 'float16' or 'float32', got 'fp16'"),
    ]),
]  # fmt: skip
ROWS = [(registry, config | arguments, words) for registry, config, rows in TABLE for arguments, words in rows]


@pytest.mark.parametrize(('registry', 'config', 'words'), ROWS)
def test_bad_arguments_are_refused_where_they_come_in(registry, config, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        registry.build({key: value for key, value in config.items() if value is not None})


def test_images_of_other_channels_and_sizes():
    """One channel where the pipeline has three, the other way round, and parts of units."""
    for arguments, image, idx, words in (
        (PICO | dict(in_channels=1), (1, 3, 64, 64), None, 'images have 3 channels, but the .* in_channels=1'),
        (VIT | dict(img_size=32), (1, 1, 32, 32), [[0]], 'images have 1 channels, but the .* in_channels=3'),
        (PICO, (1, 3, 40, 32), [[0]], 'no whole number of 16 px units'),
    ):
        backbone = MODELS.build(arguments)
        with pytest.raises(ValueError, match=words):
            backbone(torch.zeros(image), *([] if idx is None else [torch.tensor(idx)]))
