"""Settings that nothing would read, or that cannot mean what they say."""

import re
import uuid
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from tiny_run import TINY, read, read_log, start, stock

from coma_mm.engine.checks.config import check_batches, check_names, check_options, check_training
from coma_mm.engine.runner.build import _name_additions, build_runner
from coma_mm.engine.runner.config_files import read_config

STOCK = [
    ('mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco.py'),
    ('mmdet', 'rtmdet/rtmdet_s_8xb32-300e_coco.py'),
    ('mmdet', 'grounding_dino/dod/grounding_dino_swin-t_pretrain_zeroshot_concat_dod.py'),
    ('mmseg', 'bisenetv2/bisenetv2_fcn_4xb4-ohem-160k_cityscapes-1024x1024.py'),
    ('mmseg', 'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py'),
    ('mmpretrain', 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'),
    ('mmpretrain', 'arcface/resnet50-arcface_8xb32_inshop.py'),
]


def build(folder, **options):
    options = {name.replace('__', '.'): value for name, value in options.items()}
    return start(folder, {'custom_hooks': [dict(type='coma_mm.EpochSeedHook')], 'train_cfg.max_epochs': 1} | options)


# ---- names ----


@pytest.mark.parametrize(
    ('line', 'meant'),
    [
        ('train_dataloder = dict(batch_size=2)', 'which nothing reads; did you mean train_dataloader?'),
        ('optim_wraper = dict(type="OptimWrapper")', 'did you mean optim_wrapper?'),
        ('param_schedulers = []', 'did you mean param_scheduler?'),
        ('custom_import = dict(imports=["os"])', 'did you mean custom_imports?'),
        ('testdataloader = dict()', 'did you mean test_dataloader?'),
        ('test_cgf = dict()', 'did you mean test_cfg?'),
        ('load_form = "x.pth"', 'did you mean load_from?'),
    ],
)
def test_misspelt_keys_of_a_config(tmp_path, line, meant):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {str(TINY)!r}\n{line}\n')
    with pytest.raises(ValueError) as error:
        read_config(str(path))
    assert meant in str(error.value)


def test_a_file_without_a_model_is_no_config_of_a_run(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text('{}')
    with pytest.raises(ValueError, match='x.json has no model'):
        check_training(read_config(str(path)))


def test_variables_pass(tmp_path):
    path = tmp_path / 'config.py'
    names = 'lr crop_size dataset_type data_root norm_cfg conv_cfg img_scale num_classes max_epochs backend_args mode'
    path.write_text(f'_base_ = {str(TINY)!r}\n' + ''.join(f'{name} = 1\n' for name in names.split()))
    assert read_config(str(path)).crop_size == 1


@pytest.mark.parametrize('name', STOCK)
def test_stock_configs_pass(name):
    """All 2,000 passed once; these have the strangest names."""
    cfg = Config.fromfile(stock(*name))
    check_names(cfg)
    check_options(cfg, {'train_dataloader.batch_size': 1, 'optim_wrapper.accumulative_counts': 2})


@pytest.mark.parametrize(
    ('option', 'meant'),
    [
        ('lr', '--cfg-options lr: nothing reads lr, and .* does not have it; did you mean optim_wrapper.optimizer.lr?'),
        ('train_dataloder.batch_size', 'did you mean train_dataloader.batch_size?'),
        ('nothing_like_it', r'nothing reads nothing_like_it, and .*tiny_coma.py does not have it$'),
        ('optim_wrapper.optimiser.lr', 'has no optimiser; did you mean optim_wrapper.optimizer.lr?'),
        ('model.backbone.path_size', 'model.backbone of .* has no path_size; did you mean model.backbone.patch_size?'),
        ('train_cfg.max_epoch', 'did you mean train_cfg.max_epochs?'),
        ('train_dataloader.dataset.pipeline.1.imput_size', 'did you mean train_dataloader.dataset.pipeline.1.input_'),
    ],
)
def test_misspelt_options(option, meant):
    with pytest.raises(ValueError, match=meant):
        read_config(str(TINY), {option: 1})


def test_a_misspelt_option_of_a_function():
    cfg = Config(dict(train_dataloader=dict(collate_fn=dict(type=default_collate))), filename=str(TINY))
    with pytest.raises(ValueError, match='did you mean train_dataloader.collate_fn.type'):
        check_options(cfg, {'train_dataloader.collate_fn.typ': 1})


NEW = """
    find_unused_parameters load_partial val_cfg optim_wrapper.accumulative_counts optim_wrapper.optimizer.betas
    model.backbone.attn_window model.backbone._delete_ randomness.deterministic train_dataloader.num_worker_init
    train_dataloader.drop_last train_cfg.val_begin
""".split()


@pytest.mark.parametrize('option', NEW)
def test_new_keys_pass(option):
    check_options(Config.fromfile(TINY), {option: 1})


def test_arguments_near_a_sibling_pass():
    """MaxIoUAssigner has min_pos_iou and neg_iou_thr beside pos_iou_thr; a head in_channels beside channels."""
    cfg = Config.fromfile(stock('mmdet', 'retinanet/retinanet_r50_fpn_1x_coco.py'))
    cfg.model.backbone.pop('norm_eval')
    cfg.model.train_cfg.assigner.pop('neg_iou_thr')
    cfg.model.bbox_head.pop('in_channels')
    options = {'train_cfg.assigner.neg_iou_thr': 0.3, 'backbone.norm_eval': True, 'bbox_head.in_channels': 256}
    check_options(cfg, {f'model.{name}': value for name, value in options.items()})
    check_options(cfg, {'model.backbone.strides': (1, 2, 2, 2)})
    cfg.model.backbone.stride = 1
    check_options(cfg, {'model.backbone.strides': (1, 2, 2, 2)})  # an argument of ResNet, if near another key


def test_options_for_variables_are_named(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {str(TINY)!r}\ndata_root = "a"\n')
    logger = MMLogger.get_instance(uuid.uuid4().hex, log_file=str(tmp_path / 'log'))
    assert logger is MMLogger.get_current_instance()
    read_config(str(path), {'data_root': 'b'})
    assert '--cfg-options data_root: in ' in (tmp_path / 'log').read_text()


# ---- additions ----


@pytest.mark.parametrize(
    ('toolbox', 'config', 'named'),
    [
        ('mmpretrain', 'lenet/lenet5_mnist.py', 'LoadTimerHook for IterTimerHook, .*EpochLoop.*collate_fn'),
        ('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py', 'EpochLoop for EpochBasedTrainLoop'),
    ],
)
def test_additions_are_named_in_one_line(tmp_path, toolbox, config, named):
    """A config of a toolbox has none of them; the config that the run then writes has them all."""
    before = Config.fromfile(stock(toolbox, config))
    cfg = read(tmp_path, config=stock(toolbox, config))
    (line,) = [line for line in read_log(build_runner(cfg)).splitlines() if 'adds to this config' in line]
    assert re.search(named, line)
    added = line.partition('config: ')[2].partition(';')[0].split(', ')
    page = (Path(__file__).parents[2] / 'docs' / 'reliability.md').read_text()
    for name in added:
        assert f"type='{name}'" not in before.pretty_text
        assert f'`{re.split("[ .=]", name)[0]}`' in page, name
    hooks = [*cfg.default_hooks.values(), *cfg.custom_hooks]
    ours = {hook['type'].rpartition('.')[2] for hook in hooks if hook['type'].startswith('coma_mm.')}
    assert ours <= {name.partition(' ')[0] for name in added}

    cfg.dump(tmp_path / 'again.py')
    assert 'Hook' not in _name_additions(read(tmp_path, config=tmp_path / 'again.py'))


# ---- values ----


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(model__backbone__img_size=64), 'img_size is 64 and .*input_size 48.*set .* model.backbone.img_size=48'),
        (dict(train_dataloader__dataset__pipeline__0__scale=64), 'set .* train_dataloader.dataset.pipeline.0.scale=48'),
        (dict(train_cfg__max_epochs=0), 'train_cfg.max_epochs=0, .*; set --cfg-options train_cfg.max_epochs=10'),
    ],
)
def test_values_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **options)


@pytest.mark.parametrize(
    ('sampler', 'batch', 'drop_last', 'said'),
    [
        ('DefaultSampler', 12, True, None),
        ('DefaultSampler', 16, False, 'batch_size=16 is more than the 12 images: each batch is an epoch of 12'),
        ('DefaultSampler', 16, True, 'batch_size=16 is more than the 12 images, and drop_last .*batch_size=12 or'),
        ('InfiniteSampler', 16, True, None),  # images come again within a batch
    ],
)
def test_fewer_images_than_a_batch(tmp_path, sampler, batch, drop_last, said):
    loader = dict(train_dataloader__batch_size=batch, train_dataloader__drop_last=drop_last)
    runner = build(tmp_path, **loader, train_dataloader__sampler__type=sampler)
    if said and drop_last:
        with pytest.raises(ValueError, match=said):
            check_batches(runner)
    else:
        check_batches(runner)
        assert ('is more than the' in read_log(runner)) == bool(said) and (said or '') in read_log(runner)
