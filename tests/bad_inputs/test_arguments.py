"""Constructors refuse wrong arguments before anything is computed: rows of calls and words of the errors."""

import re

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS

import coma_mm  # noqa: F401, the registries' names

PICO = dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2)
DECODER = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
VALUES = dict(in_channels=64, out_channels=3072)
TABLE = [
    # ---- models
    (MODELS, PICO, dict(arch='hugee'), "unknown arch 'hugee'"),
    (MODELS, PICO, dict(arch='bas'), "did you mean 'base'?"),
    (MODELS, PICO, dict(arch=3), 'arch needs dims, depths and heads with four entries each, got 3'),
    (MODELS, PICO, dict(arch=dict(dims=[32.0] * 4, depths=[1] * 4, heads=[4] * 4)), "arch['dims'][0] must be a whole"),
    (MODELS, PICO, dict(arch=dict(dims=[34] * 4, depths=[1] * 4, heads=[2] * 4)), 'must be a multiple of 4'),
    (MODELS, PICO, dict(arch=dict(dims=[32] * 4, depths=[0] * 4, heads=[4] * 4)), "arch['depths'][0] must be a whole"),
    (MODELS, PICO, dict(arch=dict(dims=[32] * 4, depths=[1] * 4, heads=[4, 8, 5, 4])), '5 attention heads do not'),
    (MODELS, PICO, dict(img_size=0), 'img_size must be a number of pixels >= 1, or (height, width), got 0'),
    (MODELS, PICO, dict(img_size='224'), "img_size must be a number of pixels >= 1, or (height, width), got '224'"),
    (MODELS, PICO, dict(patch_size=0), 'patch_size must be a whole number >= 1, got 0'),
    (MODELS, PICO, dict(patch_size=2.0), 'patch_size must be a whole number >= 1, got 2.0'),
    (MODELS, PICO, dict(in_channels='3'), "in_channels must be a whole number >= 1, got '3'"),
    (MODELS, PICO, dict(out_indices=3), 'out_indices must be a list of numbers from 0 to 3, got 3; one is [3]'),
    (MODELS, PICO, dict(out_indices=(2.0,)), 'out_indices must be numbers from 0 to 3, got (2.0,)'),
    (MODELS, PICO, dict(compile='yes'), "compile must be True, False or a dict of options of torch.compile, got 'yes'"),
    (MODELS, PICO, dict(windows=[[[4.0, 8]], 2, None, None]), 'window 4.0 (of a head with windows (4.0, 8)) does not'),
    (MODELS, PICO, dict(windows=[4.0, 2, None, None]), 'window 4.0 (of a head with windows (4.0,)) does not'),
    (MODELS, PICO, dict(frozen_stages=1.0), 'frozen_stages must be -1 (none) to 4 (all), got 1.0'),
    (MODELS, PICO, dict(out_indices=()), 'out_indices must be numbers from 0 to 3, got ()'),
    (MODELS, PICO, dict(windows=[[4]]), 'windows must have one entry for each of four stages'),
    (MODELS, PICO, dict(windows=4), 'windows must have one entry for each of four stages'),
    (MODELS, PICO, dict(attention='msa'), "attention must name 'dm_msa' or 'msa' for each of four stages"),
    (MODELS, PICO, dict(mlp_ratio=-4), 'mlp_ratio must be a number > 0, got -4'),
    (MODELS, PICO, dict(mlp_ratio=0.001), 'mlp_ratio times the channels must be a whole number >= 1, got 0'),
    (MODELS, PICO, dict(qkv_bias='no'), "qkv_bias must be True or False, got 'no'"),
    (MODELS, PICO, dict(drop_path_rate=-0.1), 'drop_path_rate must be a number >= 0 and < 1, got -0.1'),
    (MODELS, PICO, dict(drop_path_rate=1), 'drop_path_rate must be a number >= 0 and < 1, got 1'),
    (MODELS, PICO, dict(layer_scale=float('nan')), 'layer_scale must be a number'),
    (MODELS, PICO, dict(attn_window=0), 'attn_window must be a whole number >= 1, got 0'),
    (MODELS, PICO, dict(attn_window=7, global_blocks=[99]), 'global_blocks must be numbers from 0 to 6, got (99,)'),
    (MODELS, PICO, dict(attn_window=7, global_blocks=6), 'global_blocks must be a list of numbers'),
    (MODELS, PICO, dict(frozen_stages=9), 'frozen_stages must be -1 (none) to 4 (all), got 9'),
    (MODELS, dict(type='coma_mm.MaskedViT', arch='deit-tiny'), dict(patch_size=0), 'patch_size must be a whole'),
    (MODELS, DECODER | VALUES, dict(depth=0), 'depth must be a whole number from 1 to 1000, got 0'),
    (MODELS, DECODER | VALUES, dict(dim=30, num_heads=2), 'dim must be a multiple of 4'),
    (MODELS, DECODER | VALUES, dict(num_heads=5), '5 attention heads do not divide 32 channels evenly'),
    (MODELS, DECODER | VALUES, dict(in_channels=[64, 0]), 'in_channels[1] must be a whole number >= 1, got 0'),
    (MODELS, DECODER | VALUES, dict(type='coma_mm.ConvNeXtDecoder', num_heads=None, kernel_size=4), 'must be odd'),
    (
        MODELS,
        dict(type='coma_mm.FeatureExtractor', backbone=PICO),
        dict(pool='meen'),
        "pool must be one of mean, stats, flat, got 'meen'; did you mean",
    ),
    # ---- pre-training
    *(
        (MODELS, dict(type='coma_mm.CoMA', backbone=PICO, decoder=DECODER), arguments, words)
        for arguments, words in [
            (dict(norm_pix='False'), "norm_pix must be True or False, got 'False'"),
            (dict(evaluation=dict(mode='copie')), "got 'copie'; did you mean 'copy'?"),
            (dict(evaluation=dict(intervall=2)), "not 'intervall'; did you mean 'interval'?"),
            (dict(evaluation=dict(interval=1.5)), 'evaluation interval must be a whole number >= 1, got 1.5'),
            (dict(evaluation=dict(mode='ema', momentum=2)), 'evaluation momentum must be a number > 0 and < 1, got 2'),
            (
                dict(decoder=DECODER | dict(in_channels=100)),
                'decoder.in_channels=(100,) does not fit the backbone',
            ),
            (dict(decoder=DECODER | dict(out_channels=9)), 'which means 768: leave it out of the config'),
        ]
    ),
    # ---- data
    *(
        (TRANSFORMS, dict(type='coma_mm.ComplementaryMask', input_size=64, unit_size=16), arguments, words)
        for arguments, words in [
            (dict(input_size=60), 'is no whole number of 16 px units: use (48, 48) or (64, 64)'),
            (dict(input_size='64'), "input_size must be a number of pixels >= 1, or (height, width), got '64'"),
            (dict(unit_size=0), 'unit_size must be a whole number >= 1, got 0'),
            (dict(ratio=1.0), 'a mask ratio of 1.0 over 16 units leaves a branch without units'),
            (dict(ratio='0.6'), "ratio must be a number, got '0.6'"),
            (dict(strategy='stratifed'), "did you mean 'stratified'?"),
        ]
    ),
    (TRANSFORMS, dict(type='coma_mm.LoadImage'), dict(channels=0), 'channels must be a whole number >= 1, got 0'),
    (
        TRANSFORMS,
        dict(type='coma_mm.LoadImage'),
        dict(value_range=4095),
        'value_range must be a smallest and a largest',
    ),
    (
        TRANSFORMS,
        dict(type='coma_mm.LoadImage'),
        dict(value_range=(5, 5)),
        'value_range must have two different values',
    ),
    *(
        (TRANSFORMS, dict(type='coma_mm.LoadRandomResizedCrop', scale=32), arguments, words)
        for arguments, words in [
            (dict(scale=-32), 'scale must be a number of pixels >= 1, or (height, width), got -32'),
            (dict(crop_ratio_range=0.2), 'crop_ratio_range must be a smallest and a largest value, got 0.2'),
            (dict(crop_ratio_range=(0, 1)), 'crop_ratio_range[0] must be a number > 0 and <= 1, got 0'),
            (dict(aspect_ratio_range=(2, 1)), 'aspect_ratio_range must have the smallest value first, got (2, 1)'),
        ]
    ),
    (DATASETS, dict(type='coma_mm.Photos'), dict(names='coffee'), 'names must be a list of photos among'),
    (DATASETS, dict(type='coma_mm.Photos'), dict(names=[]), 'names must be a list of photos among'),
    (DATASETS, dict(type='coma_mm.Photos'), dict(length=0), 'length must be a whole number >= 1, got 0'),
    (DATASETS, dict(type='coma_mm.Digits'), dict(size=0), 'size must be a whole number >= 1, got 0'),
    (
        DATASETS,
        dict(type='coma_mm.ImageFolder', data_root='x'),
        dict(max_unreadable=5),
        'max_unreadable must be a number',
    ),
    (DATASETS, dict(type='coma_mm.ImageFolder', data_root='x'), dict(extensions='.jpg'), 'extensions must be a list'),
    (DATASETS, dict(type='coma_mm.ImageShards', data_root='x'), dict(extensions=()), 'extensions must be a list'),
    (DATA_SAMPLERS, dict(type='coma_mm.PartSampler', dataset=[1]), dict(parts=0), 'parts must be a whole number >= 1'),
    # ---- what goes along with training
    (METRICS, dict(type='coma_mm.KNN'), dict(k=0), 'k[0] must be a whole number >= 1, got 0'),
    (METRICS, dict(type='coma_mm.KNN'), dict(k=()), 'k must be one number of neighbours or several, got none'),
    (METRICS, dict(type='coma_mm.KNN'), dict(temperature=0), 'temperature must be a number > 0, got 0'),
    (HOOKS, dict(type='coma_mm.StopOnNaNHook'), dict(interval=0), 'interval must be a whole number >= 1, got 0'),
    (HOOKS, dict(type='coma_mm.DataTimeHook'), dict(share=20), 'share must be a number from 0 to 1, got 20'),
    (
        HOOKS,
        dict(type='coma_mm.ReconstructionHook'),
        dict(num_images=0),
        'num_images must be a whole number >= 1, got 0',
    ),
    (
        HOOKS,
        dict(type='coma_mm.KNNHook', data=dict(type='x')),
        dict(train_fraction=1),
        'must be a number > 0 and < 1, got 1',
    ),
    (
        HOOKS,
        dict(type='coma_mm.FinishedHook', text=''),
        dict(text='{chekpoint}'),
        'text of FinishedHook must be a text',
    ),
    (
        OPTIM_WRAPPERS,
        dict(type='coma_mm.AutocastOptimWrapper', optimizer=torch.optim.SGD([torch.ones(1)], 0.1)),
        dict(modules='backbone'),
        "modules must be a list of names, got 'backbone'; one is ['backbone']",
    ),
]


@pytest.mark.parametrize(('registry', 'config', 'arguments', 'words'), TABLE)
def test_bad_arguments_are_refused_where_they_come_in(registry, config, arguments, words):
    config = {key: value for key, value in {**config, **arguments}.items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(words)):
        registry.build(config)


def test_images_of_other_channels():
    """One channel where the pipeline has three, and the other way round."""
    backbone = MODELS.build({**PICO, 'in_channels': 1})
    with pytest.raises(ValueError, match='the images have 3 channels, but the backbone was built with in_channels=1'):
        backbone(torch.zeros(1, 3, 64, 64))
    vit = MODELS.build(dict(type='coma_mm.MaskedViT', arch='deit-tiny', img_size=32))
    with pytest.raises(ValueError, match='the images have 1 channels, but the backbone was built with in_channels=3'):
        vit(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, dtype=torch.long))
