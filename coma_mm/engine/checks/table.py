"""Kinds and ranges of settings of the toolboxes, where they stand, and a value that works.

Our own classes check their arguments themselves.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ...utils.ranges import BATCH_SIZE, FRACTION, POSITIVE, SEED, Range, whole
from ..common import EVALUATING


class Kind(NamedTuple):
    """A kind of value, in words and as a test."""

    wanted: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()  # of which a misspelt one is told

    def __or__(self, other: 'Kind') -> 'Kind':
        return Kind(
            f'{self.wanted} or {other.wanted}',
            lambda value: self.accepts(value) or other.accepts(value),
            self.names + other.names,
        )


def in_range(range_: Range) -> Kind:
    """Return the kind of numbers in a range."""
    return Kind(str(range_), range_.__contains__)


def one_of(*names: str) -> Kind:
    """Return the kind of some words."""
    return Kind(', '.join(names), lambda value: isinstance(value, str) and value in names, names)


def exactly(*values: object) -> Kind:
    """Return the kind of some values that are no words."""
    return Kind(
        ' or '.join(map(str, values)), lambda value: any(type(value) is type(one) and value == one for one in values)
    )


def list_of(kind: Kind, *counts: int, least: int = 0) -> Kind:
    """Return the kind of lists whose entries are of a kind: of one of ``counts`` entries, or of ``least`` and more."""
    size = f' of {" or ".join(map(str, counts))}' if counts else f' of {least} or more' if least > 1 else ''
    return Kind(
        f'a list{size}, each {kind.wanted}',
        lambda value: (
            isinstance(value, (list, tuple))
            and (len(value) in counts if counts else len(value) >= least)
            and all(map(kind.accepts, value))
        ),
    )


PLAIN = bool, int, float, str, list, tuple, set, bytes
NONE = exactly(None)
FLAG = exactly(True, False)
TEXT = Kind('a text', lambda value: isinstance(value, str) and bool(value.strip()) and '\0' not in value)
NAME = Kind('the name of a class', lambda value: callable(value) or TEXT.accepts(value))
# Objects pass, which Python has built already.
SETTINGS = Kind('a dict of settings', lambda value: not isinstance(value, PLAIN) and value is not None)
OBJECT = Kind('an object', lambda value: not isinstance(value, (*PLAIN, dict)) and value is not None)
LIST = Kind('a list', lambda value: isinstance(value, (list, tuple)))
ANY = in_range(Range())
NOT_NEGATIVE = in_range(Range(0))
ABOVE_ZERO = in_range(POSITIVE)
UNIT = in_range(Range(0, 1))
IN_FRACTION = in_range(FRACTION)
UP_TO_ONE = in_range(Range(0, 1, above=True))
COUNT = in_range(whole(1))
WHOLE = Kind(
    COUNT.wanted,
    lambda value: (
        COUNT.accepts(value) or (isinstance(value, float) and value.is_integer() and COUNT.accepts(int(value)))
    ),
)
COUNT_OR_ZERO = in_range(whole(0))
COUNT_OR_NEVER = COUNT | Kind('-1', lambda value: value == -1 and not isinstance(value, bool))
SEEDED = in_range(SEED) | NONE
SIZE = COUNT | list_of(COUNT, 2)
LEVEL = one_of('CRITICAL', 'FATAL', 'ERROR', 'WARNING', 'WARN', 'INFO', 'DEBUG', 'NOTSET') | in_range(whole(0, 50))
DTYPE = one_of('float16', 'bfloat16', 'float32', 'float64')
RULE = one_of('greater', 'less')
METHOD = one_of('fork', 'spawn', 'forkserver') | NONE
TEMPLATE = Kind(
    'the name of a file with one {}',
    lambda value: isinstance(value, str) and re.fullmatch('[^/\0{}]*[{][}][^/\0{}]*', value) is not None,
)
PRIORITIES = 'HIGHEST VERY_HIGH HIGH ABOVE_NORMAL NORMAL BELOW_NORMAL LOW VERY_LOW LOWEST'.split()
PRIORITY = Kind(', '.join(PRIORITIES), lambda value: isinstance(value, str) and value.upper() in PRIORITIES)
NOWHERE = Kind("left out: what is there would be written over, and logs go into the run's folder", lambda value: False)
BELOW = Kind(
    "a name in the run's folder",
    lambda value: TEXT.accepts(value) and not os.path.normpath(value).startswith(('/', '..')),
)

# ---- the table ----

LOADER = '(train|val|test)_dataloader'
STEP = f'{LOADER}.**.pipeline.**'
OPTIMIZER = 'optim_wrapper.**.optimizer'
WRAPPER = 'optim_wrapper.**'
PARAMETERS = f'{WRAPPER}.paramwise_cfg'
SCHEDULER = 'param_scheduler.**'
PREPROCESSOR = 'data_preprocessor model.**.data_preprocessor'  # of two places
OURS = 'DyViT', 'MaskedViT'
CROPS = 'RandomResizedCrop', 'LoadRandomResizedCrop'
RESIZES = 'RandomResizedCrop', 'Resize', 'ResizeEdge'
INTERPOLATIONS = 'nearest', 'bilinear', 'bicubic', 'area', 'lanczos', 'box', 'hamming'


class Row(NamedTuple):
    """A setting: what it may be, a value to type, and the classes whose it is, if others have the name as well."""

    place: re.Pattern
    kind: Kind
    example: str
    of: tuple[str, ...] = ()


def _rows(*groups: tuple) -> dict[str, list[Row]]:
    """Return rows by the last part of their names, of groups ``(kind, example, places, names[, of])``.

    In a place ``*`` is any one part, and ``**`` are any number of them.
    """
    table: dict[str, list[Row]] = {}
    steps = {'*': r'[^.]+\.', '**': r'(?:[^.]+\.)*', '': ''}
    for kind, example, places, names, *of in groups:
        for name in names.split():
            for place in places.split() or ['']:
                pattern = ''.join(steps.get(part, rf'{part}\.') for part in place.split('.'))
                pattern += '[^.]+' if name == '*' else name
                table.setdefault(name, []).append(Row(re.compile(pattern), kind, example, *of))
    return table


TABLE = _rows(
    # ---- what is there at all
    (SETTINGS, '', '', 'model'),
    (SETTINGS | NONE, '', '', 'train_cfg val_cfg test_cfg optim_wrapper data_preprocessor auto_scale_lr strategy'),
    (SETTINGS | NONE, '', '', 'tta_model model_wrapper_cfg custom_imports default_hooks env_cfg randomness'),
    (SETTINGS | LIST | NONE, '', '', 'train_dataloader val_dataloader test_dataloader param_scheduler'),
    (SETTINGS | LIST | NONE, '', '', 'val_evaluator test_evaluator visualizer'),
    (LIST | SETTINGS | NONE, '', 'visualizer log_processor', 'vis_backends custom_cfg'),
    (NOWHERE, '', 'visualizer', 'save_dir'),
    (NOWHERE, '', 'visualizer.**', 'save_dir', ('LocalVisBackend',)),
    (BELOW, '', 'visualizer.**', 'img_save_dir config_save_file scalar_save_file', ('LocalVisBackend',)),
    (SETTINGS | NONE, '', '', 'log_processor'),
    (SETTINGS | NONE, '', 'default_hooks', '*'),
    (LIST | NONE, '', '', 'custom_hooks'),
    (SETTINGS, '', 'custom_hooks', '*'),
    (NAME, 'AdamW', '**', 'type'),
    # ---- the run
    (FLAG | SETTINGS, 'False', '', 'compile'),
    (FLAG, 'True', '', 'resume find_unused_parameters'),
    (FLAG | TEXT | list_of(TEXT), 'True', '', 'load_partial'),
    (TEXT | NONE, 'None', '', 'load_from work_dir experiment_name default_scope'),
    (one_of('none', 'pytorch', 'slurm', 'mpi'), 'none', '', 'launcher'),
    (one_of('torch', 'mmcv') | NONE, 'torch', '', 'sync_bn'),
    (LEVEL, 'INFO', '', 'log_level'),
    (SEEDED, '0', 'randomness', 'seed'),
    (FLAG, 'True', 'randomness env_cfg', 'deterministic diff_rank_seed cudnn_benchmark'),
    (SETTINGS | NONE, '', 'env_cfg', 'mp_cfg dist_cfg'),
    (METHOD, 'fork', 'env_cfg.mp_cfg', 'mp_start_method'),
    (COUNT_OR_ZERO | NONE, '0', 'env_cfg.mp_cfg', 'opencv_num_threads'),
    (TEXT, 'nccl', 'env_cfg.dist_cfg', 'backend'),
    (ABOVE_ZERO, '1800', 'env_cfg.dist_cfg', 'timeout'),
    (COUNT, '4096', 'env_cfg', 'resource_limit'),
    (COUNT, '256', 'auto_scale_lr', 'base_batch_size'),
    (COUNT, '10', 'log_processor', 'window_size'),
    (COUNT_OR_ZERO, '4', 'log_processor', 'num_digits'),
    (FLAG, 'True', 'auto_scale_lr log_processor', 'enable by_epoch log_with_hierarchy'),
    # ---- loops
    (COUNT, '10', 'train_cfg', 'max_epochs'),
    (WHOLE, '10', 'train_cfg', 'max_iters val_interval'),
    (COUNT_OR_ZERO, '1', 'train_cfg', 'val_begin'),
    (FLAG, 'True', '(train|val|test)_cfg', 'by_epoch fp16'),
    (list_of(list_of(COUNT_OR_ZERO, 2)) | NONE, 'None', 'train_cfg', 'dynamic_intervals'),
    # ---- loaders
    (in_range(BATCH_SIZE), '8', f'{LOADER}.**', 'batch_size'),
    (COUNT_OR_ZERO, '2', f'{LOADER}.**', 'num_workers'),
    (COUNT | NONE, '2', f'{LOADER}.**', 'prefetch_factor num_batch_per_epoch'),
    (FLAG, 'False', f'{LOADER}.**', 'persistent_workers pin_memory drop_last round_up test_mode lazy_init with_label'),
    (FLAG | NONE, 'True', f'{LOADER}.**', 'shuffle serialize_data'),
    (NOT_NEGATIVE, '0', f'{LOADER}.**', 'timeout'),
    (SETTINGS | NONE, '', LOADER, 'sampler batch_sampler worker_init_fn'),
    (SETTINGS, '', LOADER, 'collate_fn'),
    (METHOD, 'fork', LOADER, 'multiprocessing_context'),
    (SETTINGS | LIST, '', LOADER, 'dataset'),
    (SEEDED, '0', f'{LOADER}.**.sampler', 'seed'),
    (COUNT, '1', f'{LOADER}.**.dataset', 'times max_refetch'),
    (LIST, '', f'{LOADER}.**', 'pipeline'),
    (SETTINGS, '', f'{LOADER}.**.pipeline', '*'),
    (TEXT | exactly('') | LIST | NONE, '', f'{LOADER}.**', 'data_root'),
    (TEXT | exactly('') | LIST | SETTINGS | NONE, '', f'{LOADER}.**', 'ann_file'),
    (SIZE, '224', STEP, 'scale crop_size input_size', (*CROPS, 'CenterCrop', 'ComplementaryMask')),
    (one_of('cv2', 'pillow'), 'pillow', STEP, 'backend', RESIZES),
    (one_of(*INTERPOLATIONS), 'bicubic', STEP, 'interpolation', RESIZES),
    (list_of(ABOVE_ZERO, 2), '0.2,1.0', STEP, 'crop_ratio_range aspect_ratio_range', CROPS),
    (LIST | TEXT | NONE, '', STEP, 'meta_keys algorithm_keys'),
    (UNIT | list_of(UNIT) | NONE, '0.5', STEP, 'prob', ('RandomFlip',)),
    (COUNT, '10', STEP, 'max_attempts', CROPS),
    # ---- optimizers
    (SETTINGS, '', WRAPPER, 'optimizer'),
    (list_of(TEXT), 'backbone,', WRAPPER, 'modules', ('AutocastOptimWrapper',)),
    (NOT_NEGATIVE, '0.001', OPTIMIZER, 'lr'),
    (NOT_NEGATIVE, '0.05', OPTIMIZER, 'weight_decay'),
    (list_of(IN_FRACTION, least=2), '0.9,0.999', OPTIMIZER, 'betas'),
    (ABOVE_ZERO | list_of(ABOVE_ZERO, 2), '1e-8', OPTIMIZER, 'eps'),
    (IN_FRACTION, '0.9', OPTIMIZER, 'momentum'),
    (UNIT, '0.9', OPTIMIZER, 'alpha rho dampening'),
    (FLAG, 'False', OPTIMIZER, 'nesterov amsgrad maximize centered capturable differentiable'),
    (FLAG | NONE, 'None', OPTIMIZER, 'foreach fused'),
    (COUNT, '1', WRAPPER, 'accumulative_counts'),
    (COUNT, '12', PARAMETERS, 'num_layers'),
    (SETTINGS | NONE, '', f'{WRAPPER} {PARAMETERS}', 'clip_grad paramwise_cfg custom_keys'),
    (ABOVE_ZERO, '1.0', f'{WRAPPER}.clip_grad', 'max_norm clip_value'),
    (ABOVE_ZERO | exactly(float('inf'), 'inf'), '2', f'{WRAPPER}.clip_grad', 'norm_type'),
    (one_of('norm', 'value'), 'norm', f'{WRAPPER}.clip_grad', 'type'),
    (FLAG, 'False', f'{WRAPPER}.clip_grad', 'error_if_nonfinite'),
    (ABOVE_ZERO | one_of('dynamic') | SETTINGS, 'dynamic', WRAPPER, 'loss_scale'),
    (DTYPE | NONE | SETTINGS, 'bfloat16', WRAPPER, 'dtype', ('AmpOptimWrapper', 'AutocastOptimWrapper')),
    (NOT_NEGATIVE, '1.0', f'{PARAMETERS}.**', 'lr_mult decay_mult bias_lr_mult bias_decay_mult'),
    (NOT_NEGATIVE, '1.0', f'{PARAMETERS}.**', 'norm_decay_mult dwconv_decay_mult flat_decay_mult'),
    (SETTINGS, '', f'{PARAMETERS}.custom_keys', '*'),
    (NAME, 'DefaultOptimWrapperConstructor', WRAPPER, 'constructor'),
    (UP_TO_ONE, '0.8', PARAMETERS, 'layer_decay_rate decay_rate'),
    (FLAG, 'True', PARAMETERS, 'bypass_duplicate'),
    # ---- schedules
    (NOT_NEGATIVE, '0', SCHEDULER, 'begin'),
    (ABOVE_ZERO, '10', SCHEDULER, 'end'),
    (ABOVE_ZERO | NONE, '10', SCHEDULER, 'T_max'),
    (UP_TO_ONE, '0.001', SCHEDULER, 'start_factor'),
    (UNIT, '1.0', SCHEDULER, 'end_factor'),
    (UNIT, '0.1', SCHEDULER, 'factor'),
    (UNIT, '0.3', SCHEDULER, 'pct_start'),
    (NOT_NEGATIVE | NONE, '0', SCHEDULER, 'eta_min eta_min_ratio'),
    (in_range(Range(0, 10, above=True)), '0.1', SCHEDULER, 'gamma power'),
    (ABOVE_ZERO, '0.1', SCHEDULER, 'eta_max div_factor final_div_factor'),
    (list_of(ABOVE_ZERO), '8,11', SCHEDULER, 'milestones'),
    (list_of(COUNT, least=1), '10,20', SCHEDULER, 'periods'),
    (list_of(NOT_NEGATIVE, least=1), '1,0.5', SCHEDULER, 'restart_weights'),
    (COUNT, '10', SCHEDULER, 'step_size'),
    (COUNT | NONE, '1000', SCHEDULER, 'total_steps'),
    (one_of('cos', 'linear'), 'cos', SCHEDULER, 'anneal_strategy'),
    (COUNT_OR_ZERO, '10', SCHEDULER, 'patience cooldown'),
    (FLAG, 'True', SCHEDULER, 'by_epoch convert_to_iter_based three_phase verbose'),
    # ---- hooks
    (COUNT_OR_NEVER, '1', 'default_hooks.checkpoint', 'interval max_keep_ckpts'),
    (COUNT_OR_ZERO, '0', 'default_hooks.checkpoint', 'save_begin'),
    (FLAG, 'True', 'default_hooks.checkpoint custom_hooks.*', 'by_epoch save_last save_optimizer save_param_scheduler'),
    (TEXT | list_of(TEXT, least=1) | NONE, 'auto', 'default_hooks.checkpoint', 'save_best'),
    (RULE | list_of(RULE) | NONE, 'greater', 'default_hooks.checkpoint', 'rule'),
    (TEXT | NONE, 'None', 'default_hooks.checkpoint', 'out_dir'),
    (TEXT | list_of(TEXT) | NONE, 'None', 'default_hooks.checkpoint', 'published_keys greater_keys less_keys'),
    (TEMPLATE | NONE, 'epoch_{}.pth', 'default_hooks.checkpoint', 'filename_tmpl'),
    (COUNT, '10', 'default_hooks.logger', 'interval interval_exp_name'),
    (COUNT, '1', 'default_hooks.visualization', 'interval'),
    (FLAG, 'True', 'default_hooks.logger', 'ignore_last log_metric_by_epoch keep_local'),
    (FLAG, 'True', 'default_hooks.visualization', 'draw enable show'),
    (COUNT_OR_ZERO | COUNT_OR_NEVER, '1', 'custom_hooks.*', 'interval'),
    (COUNT, '8', 'custom_hooks.*', 'num_images k patience batch_size'),
    (COUNT_OR_ZERO, '0', 'custom_hooks.*', 'num_gallery num_workers begin_iter begin_epoch'),
    (SEEDED, '0', 'custom_hooks.*', 'seed'),
    (UP_TO_ONE, '0.0002', 'custom_hooks.*', 'momentum', ('EMAHook',)),
    (in_range(whole(0, 100)) | PRIORITY | OBJECT, 'NORMAL', 'custom_hooks.* default_hooks.*', 'priority'),
    (SETTINGS | NONE, '', 'custom_hooks.*', 'dataset data train val', EVALUATING),
    # ---- models
    (SETTINGS | LIST | NONE, '', 'model.**', 'init_cfg'),
    (SETTINGS | LIST | NONE, '', 'model', 'backbone neck head decode_head auxiliary_head bbox_head roi_head'),
    (SETTINGS, '', 'model', 'backbone decoder', ('CoMA',)),
    (list_of(ANY, least=1) | NONE, '123.7,116.3,103.5', PREPROCESSOR, 'mean second_mean'),
    (list_of(ABOVE_ZERO, least=1) | NONE, '58.4,57.1,57.4', PREPROCESSOR, 'std second_std'),
    (FLAG | NONE, 'True', PREPROCESSOR, 'bgr_to_rgb rgb_to_bgr to_rgb to_onehot pad_mask pad_seg non_blocking'),
    (COUNT | NONE, '32', PREPROCESSOR, 'pad_size_divisor size_divisor num_classes'),
    (ANY, '0', PREPROCESSOR, 'pad_value pad_val seg_pad_val mask_pad_value seg_pad_value'),
    (SIZE, '224', 'model.**.backbone', 'img_size', OURS),
    (COUNT, '3', 'model.**.backbone', 'in_channels'),
    (IN_FRACTION, '0.1', 'model.**.backbone', 'drop_path_rate'),
    (in_range(whole(-1)), '-1', 'model.**.backbone', 'frozen_stages'),
    (FLAG, 'False', 'model.**.backbone', 'with_cp norm_eval'),
    (SETTINGS | NONE, '', 'model', 'evaluation', ('CoMA',)),
    (COUNT, '10', 'model.**', 'num_classes'),
    (UNIT, '0.1', 'model.**', 'label_smooth_val'),
    (UNIT, '0.5', 'model.**.test_cfg.**', 'iou_threshold'),
    (NOT_NEGATIVE, '0.05', 'model.**.test_cfg.**', 'score_thr'),
    (COUNT_OR_NEVER, '100', 'model.**.test_cfg.**', 'max_per_img'),
    (one_of('whole', 'slide', 'slide_flip', 'predict'), 'whole', 'model.test_cfg', 'mode'),
)
