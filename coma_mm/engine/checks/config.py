"""Settings that nothing would read, or that cannot mean what they say, are errors before anything is built."""

import inspect
import logging
from collections.abc import Iterator, Sequence, Sized
from contextlib import suppress
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ...utils.arguments import misspelt, read_size
from ...utils.configs import type_name, walk, walk_dicts

# ---- names ----

# Top-level keys that tools read: the runners take their own, and get the rest by `cfg.get`.
KEYS = {
    *(name for kind in (Runner, FlexibleRunner) for name in inspect.signature(kind.__init__).parameters),
    *('runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'custom_imports'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'tta_model', 'tta_pipeline', 'load_partial'),
} - {'self', 'cfg'}
VARIABLES = ('mode', 'modes', 'models')  # come near one of them
# Classes of parts that are built without a `type`.
DEFAULTS = {
    'optim_wrapper': (OptimWrapper,),
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop),
    **{f'{part}_dataloader': (DataLoader,) for part in ('train', 'val', 'test')},
}


def check_names(cfg: Config) -> None:
    """Refuse top-level keys that are close to one that tools read, and so are probably meant to be it.

    All other unknown names pass: configs are full of variables.
    """
    for name in cfg.keys():
        if name not in KEYS and name not in VARIABLES and (near := misspelt(name, KEYS)):
            raise ValueError(
                f'{cfg.filename} sets {name}, which nothing reads; did you mean {near}? If it is a variable, give it '
                'another name'
            )


def check_options(cfg: Config, options: dict) -> None:
    """Refuse options for keys that a config does not have, unless they may well be meant to be new.

    Raises:
        ValueError: If a top-level key is neither in the config nor known, or if one deeper down is close to one beside
            it, and not an argument of what is built there; with the name to write.
    """
    settings = dict(walk(dict(cfg.items())))  # by dotted name
    for option in options:
        first, *rest = option.split('.')
        if first not in cfg and first not in KEYS:
            ends = [place for place in settings if place.rpartition('.')[2] == first]
            near = misspelt(first, KEYS)
            meant = [option.replace(first, near, 1)] if near else [x for x in ends if x.split('.')[0] in KEYS][:3]
            hint = f'; did you mean {" or ".join(meant)}?' if meant else ''
            raise ValueError(
                f'--cfg-options {option}: nothing reads {first}, and {cfg.filename} does not have it{hint}'
            )
        if first not in KEYS and not rest and not isinstance(cfg[first], (dict, list)):
            print_log(
                f'--cfg-options {option}: in {cfg.filename} this is a variable, whose value has been used already; '
                'set what it stands for instead',
                'current',
                level=logging.WARNING,
            )
        _check_below(cfg, settings, option)


def _check_below(cfg: Config, settings: dict[str, Any], option: str) -> None:
    names = option.split('.')
    for i, name in enumerate(names[1:], 1):
        place = '.'.join(names[:i])
        if f'{place}.{name}' in settings:
            continue
        node = settings.get(place)
        if not isinstance(node, dict) or name == '_delete_':  # of a list, mmengine's own error is clear
            return
        near = misspelt(name, list(node))
        if near and not _takes(node, place, name, cfg.get('default_scope')):
            meant = '.'.join([place, near, *names[i + 1 :]])
            raise ValueError(f'--cfg-options {option}: {place} of {cfg.filename} has no {name}; did you mean {meant}?')
        return


def _takes(node: dict, place: str, name: str, scope: str | None) -> bool:
    """Say whether what is built from a part of a config has an argument of this name."""
    kind = node.get('type')
    if kind is None:
        kinds: Sequence[Any] = DEFAULTS.get(place, ())
    elif isinstance(kind, str):
        kinds = _find(kind, scope)
    else:
        kinds = [kind] if inspect.isclass(kind) else []  # a function
    bases = [base for kind in kinds for base in kind.__mro__]
    return any(name in inspect.signature(base.__init__).parameters for base in bases)


def _find(kind: str, scope: str | None) -> list[type]:
    """Return the classes that are registered by a name, whatever they are."""
    found = []
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(scope) as current, suppress(RuntimeError):  # there is none
                found.append(current.get(kind))
    return [kind for kind in found if inspect.isclass(kind)]


# ---- values ----

TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def check_training(cfg: Config) -> None:
    """Refuse runs without a model or with a part missing, and encoders that are told another size of images."""
    if not cfg.get('model'):
        raise ValueError(f'{cfg.filename} has no model, so it is no config of a run')
    for names in TOGETHER:
        missing = [name for name in names if cfg.get(name) is None]
        if 0 < len(missing) < len(names) and cfg.get('runner_type', 'Runner') == 'Runner':
            raise ValueError(
                f'{", ".join(names)} go together, and there is no {", no ".join(missing)}: give all of them, or none'
            )
    backbone = cfg.model.get('backbone')
    if not isinstance(backbone, dict):
        return
    sizes = dict(_crops(cfg.get('train_dataloader'), 'train_dataloader'))
    kind = type_name(backbone.get('type'))
    keeps_size = kind == 'DyViT' and (backbone.get('init_cfg') or cfg.get('resume'))  # that of weights, interpolated
    if not keeps_size and ('img_size' in backbone or kind in ('DyViT', 'MaskedViT')):
        sizes['model.backbone.img_size'] = backbone.get('img_size', 224)
    masks = {place: size for place, size in sizes.items() if place.endswith('.input_size')}
    for place, size in masks.items():
        pipeline = place.rpartition('.')[0].rpartition('.')[0]
        for other, value in sizes.items():
            beside = other.startswith(f'{pipeline}.') or other == 'model.backbone.img_size'
            if beside and read_size(other, value) != read_size(place, size):
                option = f'{other}={size}'.replace(' ', '')
                raise ValueError(
                    f'{other} is {value} and {place} {size}, but pre-training has images of one size; set '
                    f'--cfg-options {option}, or the latter to the former'
                )


def _crops(node: object, place: str) -> Iterator[tuple[str, int | Sequence[int]]]:
    """Yield where below a place of a config images get a size, and where masks expect one."""
    for path, step in walk_dicts(node, place):
        kind = type_name(step.get('type'))
        if kind.endswith('ComplementaryMask') and 'input_size' in step:
            yield f'{path}.input_size', step['input_size']
        if kind.endswith('RandomResizedCrop') and isinstance(step.get('scale'), int):  # a pair may be (width, height)
            yield f'{path}.scale', step['scale']


def check_batches(runner: Runner) -> None:
    """Refuse a batch that is larger than the data set where incomplete ones are dropped; warn where they are not.

    An ``InfiniteSampler`` fills each batch.
    """
    loader = runner.train_dataloader
    size, sampler = getattr(loader, 'batch_size', None), getattr(loader, 'sampler', None)
    if not size or not isinstance(sampler, Sized) or isinstance(sampler, InfiniteSampler) or len(sampler) >= size:
        return
    images = f'{len(sampler)} images' + (f' for each of {runner.world_size} processes' if runner.world_size > 1 else '')
    if loader.drop_last and len(loader) == 0:
        raise ValueError(
            f'train_dataloader.batch_size={size} is more than the {images}, and drop_last leaves nothing to train on; '
            f'set --cfg-options train_dataloader.batch_size={max(len(sampler), 1)} or train_dataloader.drop_last=False'
        )
    print_log(
        f'train_dataloader.batch_size={size} is more than the {images}: each batch is an epoch of {len(sampler)}',
        'current',
        level=logging.WARNING,
    )
