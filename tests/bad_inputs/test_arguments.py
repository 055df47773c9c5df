"""Constructors refuse wrong arguments before anything is computed, in a sentence that names the argument."""

import math

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS
from test_properties import refused

PICO = dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2)
VIT = dict(type='coma_mm.MaskedViT', arch='deit-tiny')
DECODER = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
CONVOLUTIONS = dict(type='coma_mm.ConvNeXtDecoder', in_channels=64, out_channels=3072, dim=32, depth=1)
SGD = torch.optim.SGD([torch.ones(1)], 0.1)
NAN, INFINITE = math.nan, math.inf


def arch(dims=32, depths=1, heads=4):
    given = dict(dims=dims, depths=depths, heads=heads)
    return {name: value if isinstance(value, list) else [value] * 4 for name, value in given.items()}


def within(config, **changes):
    """Return a part of a config with each of some values of an argument."""
    return [config | {name: value} for name, values in changes.items() for value in values]


def modes(mode, **options):
    """Return settings of an evaluation branch with each of some values of an option."""
    return within(dict(mode=mode), **options)


# What is built with right arguments, and wrong values of each; behind a colon what is said in place of its name.
TABLE = [
    (MODELS, PICO, {
        'arch': ['', 'hugee', 'bases', 3, None, {}, dict(dims=[8] * 4), dict(arch(), depths=4)],
        "arch: did you mean 'base'?": ['bas'],
        'arch: dims': [arch(dims=dims) for dims in (32.0, [8, 8, 8, 0], [10, 8, 8, 8], [8] * 5, '8', True)],
        'arch: must be a multiple of 4': [arch(dims=34, heads=2)],
        'arch: depths': [arch(depths=depths) for depths in (0, [0, 1, 1, 1], [1] * 3, [1, 1, 1, 1.5])],
        'arch: from 1 to 1000, got 9999999': [arch(depths=[1, 1, 9999999, 1])],
        'arch: heads': [arch(heads=heads) for heads in (0, 3, [4, 8, 5, 4], [1] * 3, None)] + [arch([8, 8, 8, 6])],
        'img_size': [0, -8, (8,), (8, 0), 8.0, '224', None],
        'patch_size': [0, -1, 2.0, '2', (2, 2)],
        'in_channels': [0, 2.0, '3', None],
        'out_indices': [[], (), 3, [4], (0, 4), [-5], ['3'], (2.0,), None, '3', [None]],
        'out_indices: one is [3]': [3],
        'compile': ['yes'],
        'windows': [
            *([window, 2, None, None] for window in (3, 4.0, [[4.0, 8]], [(4, 'a')], (2, 4))),
            *([[window]] * 4 for window in (0, 3, 16, '4', None, 4.0, -1)),
            *([[1, 1, 1]] * 4, [[]] * 4, [1] * 3, [[4]], 4, [1, None, None, None], {0: 4}),
        ],
        'windows: choose from [1, 2, 4, 8]': ['4444', [3, 2, None, None]],
        'windows: choose from [1, 2, 4]': [[4, 8, None, None]],
        'windows: [[2, 4]]': [[(2, 4), 2, None, None]],
        'windows: one window or several different ones': [
            *([[window]] * 4 for window in ((4, 4), ())),
            *([4, [window], None, None] for window in ((4, 4), ())),
        ],
        'kv_conv': ['pool', 'none', None, 1],
        'attention': [None, 'msa', ['msa'] * 3, ['swin'] * 4, [None] * 4, [['msa']] * 4],
        'attention: set windows[2]': [['dm_msa'] * 4],
        'mlp_ratio': [0, -4, NAN, INFINITE, '4'],
        'mlp_ratio: times the channels must be a whole number': [0.01, 0.001],
        'qkv_bias': [None, 1, 'no'],
        'layer_scale': [NAN, INFINITE, '1', True],
        'attn_window': [0, -1, 1.5, '7', True],
        'global_window': [3],
        'frozen_stages: must be -1 (none) to 4 (all), got': [-2, 5, 9, None, '1', 1.0],
        'drop_path_rate': [1, 1.0, -0.1, NAN, None, '0'],
        'with_cp': [None, 1],
        'norm_eval': [None, 'no'],
    }),
    (MODELS, PICO | dict(attn_window=7), {'global_blocks': [[99], [-99], 1, 6, ['1'], [1.0]]}),
    (MODELS, PICO | dict(init_cfg=dict(type='Constant')), {'pretrained: `init_cfg`': ['a.pth']}),
    (MODELS, VIT, {'patch_size': [0]}),
    (MODELS, DECODER | dict(in_channels=64, out_channels=3072), {
        'depth': [0],
        'dim': [0, 30, 8.0],
        'num_heads: 5 attention heads do not divide 32 channels evenly': [5],
        'in_channels': [[64, 0]],
    }),
    (MODELS, CONVOLUTIONS, {'kernel_size': [4]}),
    (MODELS, dict(type='coma_mm.FeatureExtractor', backbone=PICO), {"pool: did you mean 'mean'?": ['meen']}),
    (MODELS, dict(type='coma_mm.CoMA', backbone=PICO, decoder=DECODER), {
        'norm_pix': [None, 1, 'False'],
        'fuse_stages': [None, 'no'],
        'predict_visible: goes with evaluation mode off, align, frozen only': [1.0],
        'keep_apart: keep_apart goes with evaluation mode off, align, frozen only': [1.0],
        'evaluation: mode': [dict(mode='coppy')],
        "evaluation: did you mean 'copy'?": [dict(mode='copie')],
        "evaluation: did you mean 'interval'?": [dict(intervall=2)],
        'evaluation: interval': [*modes('copy', interval=[0, 1.5]), *modes('off', interval=[2])],
        'evaluation: momentum': [*modes('ema', momentum=[0, 1, 2]), *modes('copy', momentum=[0.1])],
        'evaluation: weight': [*modes('align', weight=[0]), *modes('off', weight=[1])],
        'evaluation: weight, jitter': [dict(mode='off', weight=1.0, jitter=0)],
        'evaluation: jitter': modes('align', jitter=[2]),
        'backbone: downstream': within(PICO, attn_window=[2, 7]),
        'backbone: set fuse_stages=True': within(PICO, out_indices=[[0, 3]]),
        'backbone: frozen_stages': within(PICO, frozen_stages=[9]),
        'backbone: in_channels': within(PICO, in_channels=[0]),
        'decoder: dim': within(DECODER, dim=[0, 10, 8.0]),
        'decoder: depth': within(DECODER, depth=[0]),
        'decoder: decoder.in_channels': within(DECODER, in_channels=[7, 100]),
        'decoder: which means 768: leave it out of the config': within(DECODER, out_channels=[7, 9]),
    }),
    (MODELS, dict(type='coma_mm.CoMA', backbone=PICO, decoder=DECODER, evaluation=dict(mode='off')), {
        'predict_visible': [-1],
        'keep_apart': [-1],
    }),
    (MODELS, dict(type='coma_mm.CoMA', backbone=VIT, decoder=DECODER), {'fuse_stages: MaskedViT has one': [True]}),
    (TRANSFORMS, dict(type='coma_mm.ComplementaryMask', input_size=64, unit_size=16), {
        'input_size': ['64'],
        'input_size: use (48, 48) or (64, 64)': [60],
        'unit_size': [0],
        'ratio': [1.0, '0.6'],
        'strategy': ['block'],
        "strategy: did you mean 'stratified'?": ['stratifed'],
    }),
    (TRANSFORMS, dict(type='coma_mm.LoadImage'), {'channels': [0], 'value_range': [4095, (5, 5)]}),
    (TRANSFORMS, dict(type='coma_mm.LoadRandomResizedCrop', scale=32), {
        'scale': [-32],
        'crop_ratio_range': [0.2, (0, 1), (1, 0.5)],
        'aspect_ratio_range': [(2, 1)],
    }),
    (DATASETS, dict(type='coma_mm.Photos'), {
        'names': ['coffee', []],
        "names: choose among ['astronaut'": [['lena']],
        'length': [0],
    }),
    (DATASETS, dict(type='coma_mm.Digits'), {'size': [0]}),
    (DATASETS, dict(type='coma_mm.ImageFolder', data_root='x'), {
        'max_unreadable': [5],
        'extensions': ['.jpg'],
        'part': ['test'],
    }),
    (DATASETS, dict(type='coma_mm.ImageShards', data_root='x'), {'extensions': [()]}),
    (DATA_SAMPLERS, dict(type='coma_mm.PartSampler', dataset=[1]), {'parts': [0]}),
    (METRICS, dict(type='coma_mm.KNN'), {'k': [0, ()], 'temperature': [0]}),
    (HOOKS, dict(type='coma_mm.StopOnNaNHook'), {'interval': [0]}),
    (HOOKS, dict(type='coma_mm.DataTimeHook'), {'share': [20]}),
    (HOOKS, dict(type='coma_mm.ReconstructionHook'), {
        'num_images': [0],
        'out: in the work dir': ['x.xyz', '../x.png', 'a/../../x.png', '/x.png'],
    }),
    (HOOKS, dict(type='coma_mm.BudgetHook', minutes=5), {'minutes': [0, 'x'], 'planned': [0]}),
    (HOOKS, dict(type='coma_mm.KNNHook', data=dict(type='x')), {'train_fraction': [1]}),
    (HOOKS, dict(type='coma_mm.KNNHook'), {'train: either `data`, or `train` and `val`': [dict(type='x')]}),
    (HOOKS, dict(type='coma_mm.FinishedHook'), {'text': ['{chekpoint}']}),
    (OPTIM_WRAPPERS, dict(type='coma_mm.AutocastOptimWrapper', optimizer=SGD), {
        "modules: one is ['backbone']": ['backbone'],
        'dtype': ['fp16'],
    }),
]  # fmt: skip
ROWS = [
    (registry, config, named, value)
    for registry, config, arguments in TABLE
    for named, values in arguments.items()
    for value in values
]


@pytest.mark.parametrize(('registry', 'config', 'named', 'value'), ROWS)
def test_bad_arguments_are_refused_where_they_come_in(registry, config, named, value):
    argument, _, words = named.partition(': ')
    with pytest.raises(ValueError) as refusal:
        registry.build(config | {argument: value})
    refused(refusal.value)
    assert (words or argument) in str(refusal.value)
    if not words and isinstance(value, (int, float, str)):
        assert repr(value) in str(refusal.value)


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
