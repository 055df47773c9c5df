"""Kinds and ranges of the settings that people change, checked before anything is built.

:data:`TABLE` says of single settings where they stand, what they may be, and a value that works; :data:`AGREEMENTS` are
checks of several at once. Settings that neither names pass: they are for the classes to check that take them.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import Registry

from ...models.dyvit import ATTENTION, read_arch, read_indices, read_windows
from ...utils.arguments import did_you_mean
from ...utils.configs import walk, walk_dicts
from ...utils.ranges import BATCH_SIZE, FRACTION, MINUTES, POSITIVE, SEED, Range, whole
from ..common import explain_type, type_name

# ---- kinds ----


class Kind(NamedTuple):
    """A kind of value, in words and as a test."""

    wanted: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()  # of which a misspelt one is told

    def __or__(self, other: 'Kind') -> 'Kind':
        """Return the kind of values that are of either."""
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
SHARE = in_range(FRACTION)
RATE = in_range(Range(0, 1, above=True))
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
ANY_NUMBERS = ANY | list_of(ANY) | NONE

# ---- the table ----

LOADER = '(train|val|test)_dataloader'
OPTIMIZER = 'optim_wrapper.**.optimizer'
WRAPPER = 'optim_wrapper.**'
SCHEDULER = 'param_scheduler.**'
PREPROCESSOR = 'data_preprocessor model.**.data_preprocessor'  # of two places
OURS = 'DyViT', 'MaskedViT'
CROPS = 'RandomResizedCrop', 'LoadRandomResizedCrop'
RESIZES = 'RandomResizedCrop', 'Resize', 'ResizeEdge'
INTERPOLATIONS = 'nearest', 'bilinear', 'bicubic', 'area', 'lanczos', 'box', 'hamming'

LOOKING = 'FeaturesHook', 'KNNHook', 'QualityHook', 'ReconstructionHook'
PRIORITIES = 'HIGHEST VERY_HIGH HIGH ABOVE_NORMAL NORMAL BELOW_NORMAL LOW VERY_LOW LOWEST'.split()
PRIORITY = Kind(', '.join(PRIORITIES), lambda value: isinstance(value, str) and value.upper() in PRIORITIES)
PICTURE = Kind(
    'a name in the work dir that ends in .png, .jpg, .webp, .tif, .pdf or .svg',
    lambda value: (
        isinstance(value, str)
        and re.search(r'.[.](png|jpe?g|webp|tiff?|pdf|svg)$', value, re.I) is not None
        and not os.path.normpath(value).startswith(('/', '..'))
    ),
)
# All that a part can have: a misspelt one would be an error deep in torch or mmengine.
KNOWN = dict(
    randomness=('seed', 'deterministic', 'diff_rank_seed'),
    clip_grad=('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'),
)


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
    (SETTINGS | NONE, '', '', 'train_cfg val_cfg test_cfg optim_wrapper data_preprocessor auto_scale_lr strategy'),
    (SETTINGS | NONE, '', '', 'tta_model model_wrapper_cfg custom_imports'),
    (FLAG | SETTINGS, 'False', '', 'compile'),
    (LIST | SETTINGS | NONE, '', 'visualizer', 'vis_backends'),
    (SETTINGS, '', '', 'model'),
    (SETTINGS | LIST | NONE, '', '', 'train_dataloader val_dataloader test_dataloader param_scheduler'),
    (SETTINGS | LIST | NONE, '', '', 'val_evaluator test_evaluator visualizer'),
    (SETTINGS | NONE, '', '', 'default_hooks env_cfg randomness log_processor'),
    (SETTINGS | NONE, '', 'default_hooks', '*'),
    (LIST | NONE, '', '', 'custom_hooks'),
    (SETTINGS, '', 'custom_hooks', '*'),
    (NAME, 'AdamW', '**', 'type'),
    # ---- the run
    (FLAG, 'True', '', 'resume find_unused_parameters'),
    (FLAG | TEXT | list_of(TEXT), 'True', '', 'load_partial'),
    (TEXT | NONE, 'None', '', 'load_from work_dir experiment_name default_scope'),
    (one_of('none', 'pytorch', 'slurm', 'mpi'), 'none', '', 'launcher'),
    (one_of('torch', 'mmcv') | NONE, 'torch', '', 'sync_bn'),
    (
        one_of('CRITICAL', 'FATAL', 'ERROR', 'WARNING', 'WARN', 'INFO', 'DEBUG', 'NOTSET') | in_range(whole(0, 50)),
        'INFO',
        '',
        'log_level',
    ),
    (SEEDED, '0', 'randomness', 'seed'),
    (FLAG, 'True', 'randomness', 'deterministic diff_rank_seed'),
    (FLAG, 'True', 'env_cfg', 'cudnn_benchmark'),
    (SETTINGS | NONE, '', 'env_cfg', 'mp_cfg dist_cfg'),
    (one_of('fork', 'spawn', 'forkserver') | NONE, 'fork', 'env_cfg.mp_cfg', 'mp_start_method'),
    (COUNT_OR_ZERO | NONE, '0', 'env_cfg.mp_cfg', 'opencv_num_threads'),
    (COUNT, '4096', 'env_cfg', 'resource_limit'),
    (TEXT, 'nccl', 'env_cfg.dist_cfg', 'backend'),
    (ABOVE_ZERO, '1800', 'env_cfg.dist_cfg', 'timeout'),
    (COUNT, '256', 'auto_scale_lr', 'base_batch_size'),
    (FLAG, 'True', 'auto_scale_lr', 'enable'),
    (COUNT, '10', 'log_processor', 'window_size'),
    (COUNT_OR_ZERO, '4', 'log_processor', 'num_digits'),
    (FLAG, 'True', 'log_processor', 'by_epoch log_with_hierarchy'),
    (SETTINGS | LIST | NONE, '', 'log_processor', 'custom_cfg'),
    # ---- loops
    (COUNT, '10', 'train_cfg', 'max_epochs'),
    (WHOLE, '10', 'train_cfg', 'max_iters val_interval'),
    (COUNT_OR_ZERO, '1', 'train_cfg', 'val_begin'),
    (FLAG, 'True', 'train_cfg', 'by_epoch'),
    (list_of(list_of(COUNT_OR_ZERO, 2)) | NONE, 'None', 'train_cfg', 'dynamic_intervals'),
    (FLAG, 'False', '(val|test)_cfg', 'fp16'),
    # ---- loaders
    (in_range(BATCH_SIZE), '8', f'{LOADER}.**', 'batch_size'),
    (COUNT_OR_ZERO, '2', f'{LOADER}.**', 'num_workers'),
    (COUNT | NONE, '2', f'{LOADER}.**', 'prefetch_factor num_batch_per_epoch'),
    (FLAG, 'False', f'{LOADER}.**', 'persistent_workers pin_memory drop_last round_up test_mode lazy_init'),
    (FLAG, 'False', f'{LOADER}.**', 'serialize_data with_label'),
    (FLAG | NONE, 'True', f'{LOADER}.**', 'shuffle'),
    (NOT_NEGATIVE, '0', f'{LOADER}.**', 'timeout'),
    (SETTINGS | NONE, '', LOADER, 'sampler batch_sampler worker_init_fn'),
    (SETTINGS, '', LOADER, 'collate_fn'),
    (one_of('fork', 'spawn', 'forkserver') | NONE, 'fork', LOADER, 'multiprocessing_context'),
    (SETTINGS | LIST, '', LOADER, 'dataset'),
    (SEEDED, '0', f'{LOADER}.**.sampler', 'seed'),
    (COUNT, '1', f'{LOADER}.**.dataset', 'times max_refetch'),
    (LIST, '', f'{LOADER}.**', 'pipeline'),
    (SETTINGS, '', f'{LOADER}.**.pipeline', '*'),
    (TEXT | exactly('') | LIST | NONE, '', f'{LOADER}.**', 'data_root'),
    (list_of(TEXT) | NONE, 'masks,labels', f'{LOADER}.**', 'exclude', ('ImageFolder', 'ImageShards', 'ClassFolder')),
    (TEXT | exactly('') | LIST | SETTINGS | NONE, '', f'{LOADER}.**', 'ann_file'),
    (SIZE, '224', f'{LOADER}.**.pipeline.**', 'scale', CROPS),
    (SIZE, '224', f'{LOADER}.**.pipeline.**', 'crop_size', ('CenterCrop',)),
    (one_of('cv2', 'pillow'), 'pillow', f'{LOADER}.**.pipeline.**', 'backend', RESIZES),
    (one_of(*INTERPOLATIONS), 'bicubic', f'{LOADER}.**.pipeline.**', 'interpolation', RESIZES),
    (list_of(ABOVE_ZERO, 2), '0.2,1.0', f'{LOADER}.**.pipeline.**', 'crop_ratio_range aspect_ratio_range', CROPS),
    (COUNT, '10', f'{LOADER}.**.pipeline.**', 'max_attempts', CROPS),
    (LIST | TEXT | NONE, '', f'{LOADER}.**.pipeline.**', 'meta_keys algorithm_keys'),
    (UNIT | list_of(UNIT) | NONE, '0.5', f'{LOADER}.**.pipeline.**', 'prob', ('RandomFlip',)),
    (SIZE, '224', f'{LOADER}.**.pipeline.**', 'input_size', ('ComplementaryMask',)),
    (COUNT, '32', f'{LOADER}.**.pipeline.**', 'unit_size', ('ComplementaryMask',)),
    (in_range(Range(0, 1, above=True, below=True)), '0.6', f'{LOADER}.**.pipeline.**', 'ratio', ('ComplementaryMask',)),
    # ---- optimizers
    (SETTINGS, '', WRAPPER, 'optimizer'),
    (list_of(TEXT), 'backbone,', WRAPPER, 'modules', ('AutocastOptimWrapper',)),
    (NOT_NEGATIVE, '0.001', OPTIMIZER, 'lr'),
    (NOT_NEGATIVE, '0.05', OPTIMIZER, 'weight_decay'),
    (list_of(SHARE, least=2), '0.9,0.999', OPTIMIZER, 'betas'),
    (ABOVE_ZERO | list_of(ABOVE_ZERO, 2), '1e-8', OPTIMIZER, 'eps'),
    (SHARE, '0.9', OPTIMIZER, 'momentum'),
    (UNIT, '0.9', OPTIMIZER, 'alpha rho dampening'),
    (FLAG, 'False', OPTIMIZER, 'nesterov amsgrad maximize centered capturable differentiable'),
    (FLAG | NONE, 'None', OPTIMIZER, 'foreach fused'),
    (COUNT, '1', WRAPPER, 'accumulative_counts'),
    (SETTINGS | NONE, '', WRAPPER, 'clip_grad paramwise_cfg'),
    (ABOVE_ZERO, '1.0', f'{WRAPPER}.clip_grad', 'max_norm clip_value'),
    (ABOVE_ZERO | exactly(float('inf'), 'inf'), '2', f'{WRAPPER}.clip_grad', 'norm_type'),
    (one_of('norm', 'value'), 'norm', f'{WRAPPER}.clip_grad', 'type'),
    (FLAG, 'False', f'{WRAPPER}.clip_grad', 'error_if_nonfinite'),
    (ABOVE_ZERO | one_of('dynamic') | SETTINGS, 'dynamic', WRAPPER, 'loss_scale'),
    (
        one_of('float16', 'bfloat16', 'float32', 'float64') | NONE | SETTINGS,
        'bfloat16',
        WRAPPER,
        'dtype',
        ('AmpOptimWrapper', 'AutocastOptimWrapper'),
    ),
    (NOT_NEGATIVE, '1.0', f'{WRAPPER}.paramwise_cfg.**', 'lr_mult decay_mult bias_lr_mult bias_decay_mult'),
    (NOT_NEGATIVE, '1.0', f'{WRAPPER}.paramwise_cfg.**', 'norm_decay_mult dwconv_decay_mult flat_decay_mult'),
    (SETTINGS | NONE, '', f'{WRAPPER}.paramwise_cfg', 'custom_keys'),
    (SETTINGS, '', f'{WRAPPER}.paramwise_cfg.custom_keys', '*'),
    (NAME, 'DefaultOptimWrapperConstructor', WRAPPER, 'constructor'),
    (RATE, '0.8', f'{WRAPPER}.paramwise_cfg', 'layer_decay_rate decay_rate'),
    (COUNT, '12', f'{WRAPPER}.paramwise_cfg', 'num_layers'),
    (FLAG, 'True', f'{WRAPPER}.paramwise_cfg', 'bypass_duplicate'),
    # ---- schedules
    (NOT_NEGATIVE, '0', SCHEDULER, 'begin'),
    (ABOVE_ZERO, '10', SCHEDULER, 'end'),
    (ABOVE_ZERO | NONE, '10', SCHEDULER, 'T_max'),
    (RATE, '0.001', SCHEDULER, 'start_factor'),
    (UNIT, '1.0', SCHEDULER, 'end_factor'),
    (UNIT, '0.1', SCHEDULER, 'factor'),
    (NOT_NEGATIVE | NONE, '0', SCHEDULER, 'eta_min eta_min_ratio'),
    (in_range(Range(0, 10, above=True)), '0.1', SCHEDULER, 'gamma power'),
    (ABOVE_ZERO, '0.1', SCHEDULER, 'eta_max div_factor final_div_factor'),
    (list_of(ABOVE_ZERO), '8,11', SCHEDULER, 'milestones'),
    (list_of(COUNT, least=1), '10,20', SCHEDULER, 'periods'),
    (list_of(NOT_NEGATIVE, least=1), '1,0.5', SCHEDULER, 'restart_weights'),
    (COUNT, '10', SCHEDULER, 'step_size'),
    (COUNT | NONE, '1000', SCHEDULER, 'total_steps'),
    (UNIT, '0.3', SCHEDULER, 'pct_start'),
    (one_of('cos', 'linear'), 'cos', SCHEDULER, 'anneal_strategy'),
    (COUNT_OR_ZERO, '10', SCHEDULER, 'patience cooldown'),
    (FLAG, 'True', SCHEDULER, 'by_epoch convert_to_iter_based three_phase verbose'),
    # ---- hooks
    (COUNT_OR_NEVER, '1', 'default_hooks.checkpoint', 'interval max_keep_ckpts'),
    (COUNT_OR_ZERO, '0', 'default_hooks.checkpoint', 'save_begin'),
    (FLAG, 'True', 'default_hooks.checkpoint', 'by_epoch save_last save_optimizer save_param_scheduler'),
    (TEXT | list_of(TEXT, least=1) | NONE, 'auto', 'default_hooks.checkpoint', 'save_best'),
    (
        one_of('greater', 'less') | list_of(one_of('greater', 'less')) | NONE,
        'greater',
        'default_hooks.checkpoint',
        'rule',
    ),
    (TEXT | NONE, 'None', 'default_hooks.checkpoint', 'out_dir'),
    (TEXT | list_of(TEXT) | NONE, 'None', 'default_hooks.checkpoint', 'published_keys greater_keys less_keys'),
    (
        Kind(
            'the name of a file with one {}',
            lambda value: isinstance(value, str) and re.fullmatch('[^/\0{}]*[{][}][^/\0{}]*', value) is not None,
        )
        | NONE,
        'epoch_{}.pth',
        'default_hooks.checkpoint',
        'filename_tmpl',
    ),
    (COUNT, '10', 'default_hooks.logger', 'interval interval_exp_name'),
    (FLAG, 'True', 'default_hooks.logger', 'ignore_last log_metric_by_epoch keep_local'),
    (COUNT, '1', 'default_hooks.visualization', 'interval'),
    (FLAG, 'True', 'default_hooks.visualization', 'draw enable show'),
    (COUNT_OR_ZERO | COUNT_OR_NEVER, '1', 'custom_hooks.*', 'interval'),
    (COUNT, '8', 'custom_hooks.*', 'num_images k patience batch_size'),
    (COUNT_OR_ZERO, '0', 'custom_hooks.*', 'num_gallery num_workers begin_iter begin_epoch'),
    (SEEDED, '0', 'custom_hooks.*', 'seed'),
    (RATE, '0.0002', 'custom_hooks.*', 'momentum', ('EMAHook',)),
    (in_range(MINUTES), '60', 'custom_hooks.*', 'minutes', ('BudgetHook',)),
    (COUNT | NONE, '1000', 'custom_hooks.*', 'planned', ('BudgetHook',)),
    (FLAG, 'True', 'custom_hooks.*', 'by_epoch'),
    (in_range(whole(0, 100)) | PRIORITY | OBJECT, 'NORMAL', 'custom_hooks.* default_hooks.*', 'priority'),
    (SETTINGS | NONE, '', 'custom_hooks.*', 'dataset data train val', LOOKING),
    (TEXT, 'labels', 'custom_hooks.*', 'name', LOOKING),
    (PICTURE, 'reconstruction.png', 'custom_hooks.*', 'out', LOOKING),
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
    (COUNT, '4', 'model.**.backbone', 'patch_size', OURS),
    (COUNT, '3', 'model.**.backbone', 'in_channels'),
    (SHARE, '0.1', 'model.**.backbone', 'drop_path_rate'),
    (in_range(whole(-1)), '-1', 'model.**.backbone', 'frozen_stages'),
    (in_range(whole(-1, 4)), '-1', 'model.**.backbone', 'frozen_stages', ('DyViT',)),
    (FLAG, 'False', 'model.**.backbone', 'with_cp norm_eval'),
    (SIZE | NONE, 'None', 'model.**.backbone', 'attn_window', OURS),
    (FLAG, 'True', 'model', 'norm_pix fuse_stages', ('CoMA',)),
    (NOT_NEGATIVE, '0', 'model', 'latent_weight predict_visible', ('CoMA',)),
    (SETTINGS | NONE, '', 'model', 'evaluation', ('CoMA',)),
    (COUNT, '1', 'model.evaluation', 'interval'),
    (ABOVE_ZERO, '0.25', 'model.evaluation', 'weight'),
    (UNIT, '0.4', 'model.evaluation', 'jitter'),
    (FLAG, 'False', 'model.evaluation', 'both'),
    (COUNT, '10', 'model.**', 'num_classes'),
    (UNIT, '0.1', 'model.**', 'label_smooth_val'),
    (UNIT, '0.5', 'model.**.test_cfg.**', 'iou_threshold'),
    (NOT_NEGATIVE, '0.05', 'model.**.test_cfg.**', 'score_thr'),
    (COUNT_OR_NEVER, '100', 'model.**.test_cfg.**', 'max_per_img'),
    (one_of('whole', 'slide', 'slide_flip', 'predict'), 'whole', 'model.test_cfg', 'mode'),
)


# ---- settings that have to agree ----


def _schedule(place: str, node: dict) -> Iterator[str]:
    """Check where a scheduler begins and ends."""
    begin, end = node.get('begin', 0), node.get('end')
    if place.startswith('param_scheduler') and end is not None and end <= begin:
        yield f'{place}.end={end} must be more than {place}.begin={begin}; set --cfg-options {place}.end={begin + 1}'
    periods, weights = node.get('periods'), node.get('restart_weights')
    if periods and weights and len(periods) != len(weights):
        yield f'{place}.restart_weights={weights} must have as many entries as {place}.periods={periods}'
    if node.get('eta_min') is not None and node.get('eta_min_ratio') is not None:
        yield f'{place} has eta_min and eta_min_ratio; set --cfg-options {place}.eta_min=None'


def _normalisation(place: str, node: dict) -> Iterator[str]:
    """Check that ``mean`` and ``std`` have as many entries as the images, and which way round colours come."""
    if not place.endswith('data_preprocessor'):
        return
    mean, std = node.get('mean'), node.get('std')
    if len(mean or ()) != len(std or ()):
        yield (
            f'{place}.mean={mean} and {place}.std={std} must have as many entries; set --cfg-options '
            f'{place}.mean=123.7,116.3,103.5 {place}.std=58.4,57.1,57.4'
        )
    if node.get('bgr_to_rgb') and node.get('rgb_to_bgr'):
        yield f'{place} has bgr_to_rgb and rgb_to_bgr; set --cfg-options {place}.rgb_to_bgr=False'


def _optimizer(place: str, node: dict) -> Iterator[str]:
    """Check that Nesterov's momentum has one."""
    if place.endswith('optimizer') and node.get('nesterov') and not node.get('momentum'):
        yield f'{place}.nesterov=True needs momentum; set --cfg-options {place}.momentum=0.9'


def _crop(place: str, node: dict) -> Iterator[str]:
    """Check that ranges of a crop are in order."""
    if type_name(node.get('type')) in CROPS:
        for name in ('crop_ratio_range', 'aspect_ratio_range'):
            low, high = node.get(name) or (0, 1)
            if low > high:
                yield f'{place}.{name}=({low}, {high}) must be in order; set --cfg-options {place}.{name}={high},{low}'


def _keys(place: str, node: dict) -> Iterator[str]:
    """Check that a part has nothing in it that nobody takes."""
    known = KNOWN.get(place.rpartition('.')[2], ()) if place.startswith(('randomness', 'optim_wrapper')) else ()
    for name in node if known else ():
        if name not in known:
            yield f'{place} takes no {name!r}, but {", ".join(known)}{did_you_mean(name, known)}'


def _dyvit(place: str, node: dict) -> Iterator[str]:
    """Check what DyViT would refuse without saying where it stands."""
    if type_name(node.get('type')) != 'DyViT':
        return
    name = 'arch'
    try:
        _, depths, heads = read_arch(node.get(name, 'base'))
        for name, count in (('out_indices', 4), ('global_blocks', sum(depths))):
            if node.get(name) is not None:
                read_indices(name, node[name], count)
        name = 'windows' if node.get('windows') is not None else 'attention'
        read_windows(node.get('attention', ATTENTION), node.get('windows'), heads)
    except ValueError as error:
        yield f'{place}.{name}={node.get(name)!r}: {error}'


AGREEMENTS = _keys, _schedule, _normalisation, _optimizer, _crop, _dyvit


def _best_checkpoint(cfg: Config) -> Iterator[str]:
    """Check that there is a validation to find the best checkpoint by."""
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    if best and best != 'auto' and not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
        yield (
            f'default_hooks.checkpoint.save_best={best!r} needs a validation, and there is no val_dataloader or no '
            'val_evaluator; set --cfg-options default_hooks.checkpoint.save_best=None'
        )


def _loop(cfg: Config) -> Iterator[str]:
    """Check that training has one length."""
    loop = cfg.get('train_cfg') or {}
    if loop.get('max_epochs') is not None and loop.get('max_iters') is not None:
        yield 'train_cfg has max_epochs and max_iters: leave one of them out of the config'
    if loop.get('type') is not None and 'by_epoch' in loop:
        yield f'train_cfg.type={type_name(loop["type"])} says what by_epoch would: leave one of them out of the config'
    for number, hook in enumerate(cfg.get('custom_hooks') or ()):
        if loop and loop.get('max_iters') is None and type_name(hook.get('type')) == 'BudgetHook':
            yield f'custom_hooks.{number} is a BudgetHook, which takes train_cfg.max_iters in place of max_epochs'


def _strategy(cfg: Config) -> Iterator[str]:
    """Check that the runner that needs a strategy has one."""
    if type_name(cfg.get('runner_type')) == 'FlexibleRunner' and not cfg.get('strategy'):
        yield 'runner_type=FlexibleRunner needs a strategy; set --cfg-options strategy.type=SingleDeviceStrategy'


def _preprocessor(cfg: Config) -> Iterator[str]:
    """Check that pre-training gets its images as numbers."""
    model = cfg.get('model') or {}
    if type_name(model.get('type')) == 'CoMA' and not (model.get('data_preprocessor') or cfg.get('data_preprocessor')):
        yield (
            'model.data_preprocessor=None, but CoMA needs one; set --cfg-options model.data_preprocessor.type='
            'mmpretrain.SelfSupDataPreprocessor model.data_preprocessor.mean=123.7,116.3,103.5 '
            'model.data_preprocessor.std=58.4,57.1,57.4'
        )


def _channels(cfg: Config) -> Iterator[str]:
    """Check that ``mean`` and ``std`` are for one channel, or for as many as the images have."""
    model = cfg.get('model') or {}
    channels = (model.get('backbone') or {}).get('in_channels', 3)
    for place, node in (('model.data_preprocessor', model), ('data_preprocessor', cfg)):
        mean = (node.get('data_preprocessor') or {}).get('mean') or [0]
        if len(mean) > 1 and len(mean) % channels:
            yield (
                f'{place}.mean has {len(mean)} entries, and images {channels} channels; set --cfg-options '
                f'{place}.mean=127.5, {place}.std=64.0,'
            )


def _alignment(cfg: Config) -> Iterator[str]:
    """Check that there are several images to compare."""
    model, loader = (cfg.get(name) or {} for name in ('model', 'train_dataloader'))
    mode = (model.get('evaluation') or {}).get('mode')
    alone = cfg.get('launcher') in (None, 'none') and isinstance(loader, dict) and loader.get('batch_size') == 1
    if mode == 'align' and alone:
        yield (
            "train_dataloader.batch_size=1, but evaluation mode 'align' compares the images of a batch; set "
            '--cfg-options train_dataloader.batch_size=16, or --batch-size 16 of coma-mm pretrain'
        )


def _looked_up(cfg: Config) -> Iterator[str]:
    """Check names that mmengine looks up by itself: one that is missing would be an error of something else.

    All other types are built by a registry, which says what it does not have.
    """
    named: list[tuple[str, Any, Registry]] = [('runner_type', cfg.get('runner_type'), registries.RUNNERS)]
    places = [('train_cfg', registries.LOOPS), ('model_wrapper_cfg', registries.MODEL_WRAPPERS)]
    for part in ('train', 'val', 'test'):
        places += [(f'{part}_dataloader.{name}', registries.FUNCTIONS) for name in ('collate_fn', 'worker_init_fn')]
    for place, registry in places:
        node: Any = cfg
        for name in place.split('.'):
            node = node.get(name) if isinstance(node, (dict, Config)) else None
        if isinstance(node, dict):
            if 'type' not in node and registry is registries.FUNCTIONS:
                yield f'{place} needs a type; set --cfg-options {place}.type=NAME'
            named.append((f'{place}.type', node.get('type'), registry))
    for place, kind, registry in named:
        if isinstance(kind, str) and registry.get(kind) is None:
            with registries.DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as datasets:
                datasets.import_from_location()  # functions are registered there
            with registry.switch_scope_and_registry(cfg.get('default_scope')) as current:
                if current.get(kind) is None:
                    yield f'{place}={kind}, but {explain_type(kind, current)}'


# ---- the check ----


def check_values(cfg: Config) -> None:
    """Refuse values of the wrong kind or out of range, and values that do not go together.

    Raises:
        ValueError: With the setting's name, its value, what it may be, and the option to write.
    """
    settings = dict(walk(dict(cfg.items())))
    for place, value in settings.items():
        _check(place, value, settings.get(place.rpartition('.')[0]))
    for place, node in walk_dicts(dict(cfg.items())):
        for agreement in AGREEMENTS:
            for message in agreement(place, node):
                raise ValueError(message)
    for check in (_looked_up, _best_checkpoint, _loop, _strategy, _preprocessor, _channels, _alignment):
        for message in check(cfg):
            raise ValueError(message)


def _check(place: str, value: Any, owner: Any) -> None:
    """Raise if a row of the table has a setting, and not this value."""
    name = place.rpartition('.')[2]
    for row in (*TABLE.get(name, ()), *TABLE['*']):
        if not row.place.fullmatch(place) or row.kind.accepts(value):
            continue
        if row.of and type_name(owner.get('type')) not in row.of:
            continue
        shown = repr(value) if len(repr(value)) < 80 else f'{repr(value)[:75]} ...'
        hint = did_you_mean(value, row.kind.names) if isinstance(value, str) else ''
        hint += f'; set --cfg-options {place}={row.example}' if row.example else ''
        raise ValueError(f'{place}={shown}, but it must be {row.kind.wanted}{hint}')
