"""Settings of the wrong kind, out of range or at odds with each other are refused before anything is built."""

import pytest
from mmengine.config import Config, DictAction
from tiny_run import TINY

from coma_mm.engine.checks.table import TABLE
from coma_mm.engine.checks.values import check_values

NUMBER, WHOLE, FLAG = 'must be a number', 'must be a whole number', 'must be True or False'
SETTINGS, LIST = 'must be a dict', 'must be a list'
TEMPLATE = 'must be the name of a file with one {}'
SCHEDULER, PIPELINE = 'param_scheduler.type=', 'train_dataloader.dataset.pipeline'
BUDGET = 'custom_hooks.2.type=coma_mm.BudgetHook custom_hooks.2.'
# Settings of wrong values, as the command line takes them, by what is said of them.
KINDS = {
    NUMBER: """
        optim_wrapper.optimizer.lr=-1 optim_wrapper.optimizer.lr=nan optim_wrapper.optimizer.lr=None
        optim_wrapper.optimizer.weight_decay=x optim_wrapper.optimizer.weight_decay=-1 optim_wrapper.optimizer.eps=0
        optim_wrapper.optimizer.momentum=2 optim_wrapper.clip_grad.max_norm=-1
        optim_wrapper.paramwise_cfg.layer_decay_rate=2 optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult=x
        model.backbone.drop_path_rate=1.5
    """,
    FLAG: """
        optim_wrapper.optimizer.amsgrad=2 train_dataloader.persistent_workers=1 compile=x env_cfg.cudnn_benchmark=x
        resume=yes model.backbone.with_cp=x model.data_preprocessor.bgr_to_rgb=5
    """,
    SETTINGS: """
        optim_wrapper.optimizer=5 optim_wrapper=5 optim_wrapper.clip_grad=5
        optim_wrapper.paramwise_cfg.custom_keys.head=5 param_scheduler=5 train_cfg=5 train_dataloader.collate_fn=None
        train_dataloader.dataset=5 default_hooks=5 default_hooks.checkpoint=5 custom_hooks.2.dataset=5 model=5
        model.backbone=None model.init_cfg=5
    """,
    WHOLE: """
        optim_wrapper.accumulative_counts=1.5 train_cfg.val_interval=0 train_cfg.max_epochs=1.5
        train_cfg.max_epochs=inf train_cfg.max_epochs=True train_dataloader.batch_size=8.0
        train_dataloader.batch_size=0 train_dataloader.num_workers=two train_dataloader.num_workers=-1
        train_dataloader.prefetch_factor=0 train_dataloader.sampler.seed=x train_dataloader.dataset.pipeline.0.scale=0
        log_processor.window_size=0 randomness.seed=-1 randomness.seed=5000000000 auto_scale_lr.base_batch_size=0
        default_hooks.checkpoint.interval=0 default_hooks.checkpoint.max_keep_ckpts=x
        default_hooks.checkpoint.max_keep_ckpts=999999999999999999999999999999 default_hooks.logger.interval=0
        custom_hooks.2.num_images=0 custom_hooks.2.interval=x
    """,
    LIST: """
        train_dataloader.dataset.pipeline=5 visualizer.vis_backends=5 custom_hooks=5 model.data_preprocessor.std=0,0,0
    """,
    TEMPLATE: """
        default_hooks.checkpoint.filename_tmpl=x default_hooks.checkpoint.filename_tmpl=../x_{}.pth
        default_hooks.checkpoint.filename_tmpl=/x_{}.pth default_hooks.checkpoint.filename_tmpl={}/x.pth
    """,
}
REFUSED = [  # what is set, and words of the refusal of the last
    *((options, words) for words, settings in KINDS.items() for options in settings.split()),
    ('optim_wrapper.optimizer.betas=0.9', 'must be a list of 2 or more, each a number >= 0 and < 1'),
    ('optim_wrapper.optimizer.betas=0.9,1.5', 'must be a list of 2 or more'),
    ('optim_wrapper.dtype=float', 'float16, bfloat16'),
    ('optim_wrapper.modules=5', 'must be a list, each a text'),
    ('train_dataloader.multiprocessing_context=x', 'must be fork, spawn, forkserver'),
    ('launcher=x', 'must be none, pytorch'),
    ('runner_type=Runer', "runner_type=Runer, but there is no runner of type='Runer'; did you mean 'Runner'?"),
    ('model.data_preprocessor.mean=1,2 model.data_preprocessor.std=1,2', 'has 2 entries, and images 3 channels'),
    ('optim_wrapper.optimizer.nesterov=True', 'needs momentum'),
    ('optim_wrapper.optimizer.type=5', 'must be the name of a class'),
    ('optim_wrapper.clip_grad.max_nrm=1', "did you mean 'max_norm'?"),
    ('optim_wrapper.constructor=5', 'must be the name of a class'),
    (SCHEDULER + 'LinearLR param_scheduler.end=5 param_scheduler.start_factor=0', NUMBER),
    (SCHEDULER + 'LinearLR param_scheduler.end=-1', NUMBER),
    (SCHEDULER + 'LinearLR param_scheduler.begin=5 param_scheduler.end=2', 'must be more than param_scheduler.begin=5'),
    (SCHEDULER + 'CosineAnnealingLR param_scheduler.T_max=-5', NUMBER),
    (SCHEDULER + 'CosineAnnealingLR param_scheduler.end=9 param_scheduler.eta_min=-1', NUMBER),
    (SCHEDULER + 'MultiStepLR param_scheduler.milestones=3', LIST),
    (SCHEDULER + 'MultiStepLR param_scheduler.milestones=3,x', LIST),
    (SCHEDULER + 'StepLR param_scheduler.step_size=0', WHOLE),
    (SCHEDULER + 'ExponentialLR param_scheduler.gamma=2000', NUMBER),
    (SCHEDULER + 'LinearLR param_scheduler.by_epoch=maybe param_scheduler.end=5', FLAG),
    ('train_cfg.max_iters=5', 'leave one of them out'),
    (PIPELINE + '.0.interpolation=bicubi', "did you mean 'bicubic'?"),
    (PIPELINE + '.0.crop_ratio_range=1.0,0.1', 'must be in order'),
    ('log_level=LOUD', 'must be CRITICAL'),
    ('log_level=INFOO', "did you mean 'INFO'?; set --cfg-options log_level=INFO"),
    ('randomness.sed=1', "did you mean 'seed'?"),
    ('runner_type=FlexibleRunner', 'needs a strategy'),
    ('train_cfg.type=EpochBasedTrainLop', "did you mean 'EpochBasedTrainLoop'?"),
    ('train_cfg.type=IterBasedTrainLoop', 'leave one of them out'),
    ('model_wrapper_cfg.type=MMDistributed', "there is no model_wrapper of type='MMDistributed'"),
    ('train_dataloader.collate_fn.type=default_colate', "did you mean 'default_collate'?"),
    ('train_dataloader.worker_init_fn.type=x', "there is no function of type='x'"),
    ('train_dataloader.worker_init_fn.num_workers=1', 'needs a type'),
    ('env_cfg.mp_cfg.mp_start_method=x', 'must be fork'),
    ('load_from=5', 'must be a text'),
    ('train_cfg.max_epochs=' + '9' * 400, WHOLE),
    ('optim_wrapper.optimizer.lr=' + '9' * 400, NUMBER),
    ('default_hooks.checkpoint.save_best=acc', 'needs a validation'),
    ('custom_hooks.2.priority=x', 'HIGHEST'),
    (BUDGET + 'minutes=5', 'takes train_cfg.max_iters in place of max_epochs'),
    ('model.evaluation.mode=align train_dataloader.batch_size=1', 'compares the images of a batch'),
    ('model.data_preprocessor=None', 'CoMA needs one'),
    ('model.data_preprocessor.std=1,1', 'must have as many entries'),
    ('model.data_preprocessor.mean=1,', 'must have as many entries'),
]
ACCEPTED = [
    'optim_wrapper=None train_cfg=None',
    'optim_wrapper.optimizer.lr=0 optim_wrapper.optimizer.type=SGD optim_wrapper.clip_grad=None',
    'param_scheduler=None custom_hooks=None default_hooks.checkpoint=None log_level=10',
    'train_dataloader.dataset.ann_file=None train_dataloader.sampler=None',
    'model.data_preprocessor.mean=1, model.data_preprocessor.std=1,',
    'model.backbone.in_channels=2 model.data_preprocessor.mean=1,2 model.data_preprocessor.std=1,2',
    'default_hooks.checkpoint.interval=-1 default_hooks.checkpoint.max_keep_ckpts=-1',
]


def merged(options):
    cfg = Config.fromfile(TINY)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in read(options)})
    return cfg


def read(options):
    return [option.split('=', 1) for option in options.split()]


@pytest.mark.parametrize(('options', 'words'), REFUSED)
def test_what_cannot_be_meant(options, words):
    with pytest.raises(ValueError) as refusal:
        check_values(merged(options))
    message = str(refusal.value)
    assert words in message and '\n' not in message
    assert message.startswith(read(options)[-1][0].partition('.')[0])
    if words in (NUMBER, WHOLE, FLAG):
        name = options.split()[-1].partition('=')[0] if 'maybe' not in options else 'param_scheduler.by_epoch'
        assert message.startswith(f'{name}=') and f'; set --cfg-options {name}=' in message


@pytest.mark.parametrize('options', ACCEPTED)
def test_what_can_be_meant(options):
    check_values(merged(options))


def test_all_values_to_type_are_accepted():
    rows = [row for rows in TABLE.values() for row in rows if row.example]
    assert len(rows) > 150
    for row in rows:
        assert row.kind.accepts(DictAction._parse_iterable(row.example)), row
        assert ' ' not in row.example and '[' not in row.example  # shells leave it as it is


def test_settings_within_lists_and_several_optimizers():
    optimizer = dict(type='SGD', lr=0.1)
    cfg = Config(dict(optim_wrapper=dict(constructor='x', a=dict(optimizer=optimizer), b=dict(optimizer=optimizer))))
    cfg.param_scheduler = dict(a=[dict(type='StepLR', step_size=3)], b=dict(type='StepLR', step_size=3))
    loader = dict(
        batch_size=2, dataset=dict(type='ConcatDataset', datasets=[dict(type='A', pipeline=[dict(type='B')])])
    )
    cfg.train_dataloader = [loader, loader]
    check_values(cfg)
    for name, value in {
        'optim_wrapper.b.optimizer.lr': -1,
        'param_scheduler.a.0.step_size': 0,
        'train_dataloader.1.batch_size': 0,
        'train_dataloader.0.dataset.datasets.0.test_mode': 3,
    }.items():
        wrong = Config(cfg.to_dict())
        wrong.merge_from_dict({name: value})
        with pytest.raises(ValueError, match=f'^{name}={value}, but it must be'):
            check_values(wrong)
