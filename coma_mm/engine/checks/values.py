"""Settings that people change, checked before anything is built: by the table, and whether they go together.

Settings that neither the table nor an agreement names pass: they are for the classes to check that take them.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import Registry

from ...utils.arguments import did_you_mean
from ...utils.configs import type_name, walk
from ..common import explain_type, import_toolbox
from .table import CROPS, TABLE

# All that a part can have: a misspelt one would be an error deep in torch or mmengine.
KNOWN = dict(
    randomness=('seed', 'deterministic', 'diff_rank_seed'),
    clip_grad=('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'),
)


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


AGREEMENTS = _keys, _schedule, _normalisation, _optimizer, _crop


def _best_checkpoint(settings: dict) -> Iterator[str]:
    """Check that there is a validation to find the best checkpoint by."""
    best = settings.get('default_hooks.checkpoint.save_best')
    if best and best != 'auto' and not (settings.get('val_dataloader') and settings.get('val_evaluator')):
        yield (
            f'default_hooks.checkpoint.save_best={best!r} needs a validation, and there is no val_dataloader or no '
            'val_evaluator; set --cfg-options default_hooks.checkpoint.save_best=None'
        )


def _loop(settings: dict) -> Iterator[str]:
    """Check that training has one length."""
    loop = settings.get('train_cfg') or {}
    if loop.get('max_epochs') is not None and loop.get('max_iters') is not None:
        yield 'train_cfg has max_epochs and max_iters: leave one of them out of the config'
    if loop.get('type') is not None and 'by_epoch' in loop:
        yield f'train_cfg.type={type_name(loop["type"])} says what by_epoch would: leave one of them out of the config'
    for number, hook in enumerate(settings.get('custom_hooks') or ()):
        if loop and loop.get('max_iters') is None and type_name(hook.get('type')) == 'BudgetHook':
            yield f'custom_hooks.{number} is a BudgetHook, which takes train_cfg.max_iters in place of max_epochs'


def _strategy(settings: dict) -> Iterator[str]:
    """Check that the runner that needs a strategy has one."""
    if type_name(settings.get('runner_type')) == 'FlexibleRunner' and not settings.get('strategy'):
        yield 'runner_type=FlexibleRunner needs a strategy; set --cfg-options strategy.type=SingleDeviceStrategy'


def _preprocessor(settings: dict) -> Iterator[str]:
    """Check that pre-training gets its images as numbers."""
    is_there = settings.get('model.data_preprocessor') or settings.get('data_preprocessor')
    if type_name(settings.get('model.type')) == 'CoMA' and not is_there:
        yield (
            'model.data_preprocessor=None, but CoMA needs one; set --cfg-options model.data_preprocessor.type='
            'mmpretrain.SelfSupDataPreprocessor model.data_preprocessor.mean=123.7,116.3,103.5 '
            'model.data_preprocessor.std=58.4,57.1,57.4'
        )


def _channels(settings: dict) -> Iterator[str]:
    """Check that ``mean`` and ``std`` are for one channel, or for as many as the images have."""
    channels = settings.get('model.backbone.in_channels', 3)
    for place in ('model.data_preprocessor', 'data_preprocessor'):
        mean = settings.get(f'{place}.mean') or [0]
        if len(mean) > 1 and len(mean) % channels:
            yield (
                f'{place}.mean has {len(mean)} entries, and images {channels} channels; set --cfg-options '
                f'{place}.mean=127.5, {place}.std=64.0,'
            )


def _alignment(settings: dict) -> Iterator[str]:
    """Check that there are several images to compare."""
    alone = settings.get('launcher') in (None, 'none') and settings.get('train_dataloader.batch_size') == 1
    if settings.get('model.evaluation.mode') == 'align' and alone:
        yield (
            "train_dataloader.batch_size=1, but evaluation mode 'align' compares the images of a batch; set "
            '--cfg-options train_dataloader.batch_size=16, or --batch-size 16 of coma-mm pretrain'
        )


def _registered_names(settings: dict) -> Iterator[str]:
    """Check names that mmengine looks up by itself: one that is missing would be an error of something else.

    All other types are built by a registry, which says what it does not have.
    """
    named: dict[str, Registry] = {
        'runner_type': registries.RUNNERS,
        'train_cfg.type': registries.LOOPS,
        'model_wrapper_cfg.type': registries.MODEL_WRAPPERS,
    }
    for part in ('train', 'val', 'test'):
        for place in (f'{part}_dataloader.collate_fn', f'{part}_dataloader.worker_init_fn'):
            if isinstance(settings.get(place), dict) and 'type' not in settings[place]:
                yield f'{place} needs a type; set --cfg-options {place}.type=NAME'
            named[f'{place}.type'] = registries.FUNCTIONS
    optimizers = [
        place for place in settings if place.startswith('optim_wrapper.') and place.endswith('.optimizer.type')
    ]
    named |= dict.fromkeys(optimizers, registries.OPTIMIZERS)
    scope = settings.get('default_scope')
    for place, registry in named.items():
        kind = settings.get(place)
        if isinstance(kind, str) and registry.get(kind) is None:
            import_toolbox(scope)  # quietly
            with registries.DATASETS.switch_scope_and_registry(scope) as datasets:
                datasets.import_from_location()  # functions are registered there
            with registry.switch_scope_and_registry(scope) as current:
                if current.get(kind) is None:
                    yield f'{place}={kind}, but {explain_type(kind, current)}'


OF_CONFIGS = _registered_names, _best_checkpoint, _loop, _strategy, _preprocessor, _channels, _alignment


def check_values(cfg: Config) -> None:
    """Refuse values of the wrong kind or out of range, and values that do not go together."""
    settings = dict(walk(dict(cfg.items())))  # by dotted name
    for place, value in settings.items():
        _check(place, value, settings.get(place.rpartition('.')[0]))
    nodes = [(place, node) for place, node in settings.items() if isinstance(node, dict)]
    checks = [agreement(place, node) for place, node in nodes for agreement in AGREEMENTS]
    for message in chain(*checks, *(check(settings) for check in OF_CONFIGS)):
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
