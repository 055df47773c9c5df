"""Helpers of several folders: models and data sets without wrappers, settings of pipelines, errors of registries."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import wraps
from importlib import import_module
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.model import is_model_wrapper
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from ..datasets.seeding import fixed_seed
from ..registry import DATASETS
from ..utils.arguments import nearest
from ..utils.configs import type_name, walk_dicts

# Hooks that measure or draw the model every now and then.
EVALUATING = 'FeaturesHook', 'KNNHook', 'QualityHook', 'ReconstructionHook'


def import_toolbox(scope: str | None) -> None:
    """Import a toolbox's data sets; hide what it prints on optional packages."""
    with redirect_stdout(io.StringIO()), suppress(ImportError):
        import_module(f'{scope or "mmengine"}.datasets')


def unwrap(model: nn.Module) -> nn.Module:
    """Return a model out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def watched_dataset(runner: Runner, dataset: dict | None) -> Dataset:
    """Return the images on which hooks evaluate a run: the training data, or a data set built once for each config."""
    if dataset is None:
        return runner.train_dataloader.dataset
    built = runner.__dict__.setdefault('watched_datasets', {})
    if (key := repr(dataset)) not in built:
        with fixed_seed(0):
            built[key] = DATASETS.build(dataset)
    return built[key]


def leaf_datasets(dataset: Dataset | None) -> list[BaseDataset]:
    """Return the data sets inside wrappers that repeat or join them."""
    if isinstance(dataset, BaseDataset):
        return [dataset] if len(dataset) else []
    children = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [leaf for child in children if child is not None for leaf in leaf_datasets(child)]


LOADERS = 'LoadImage', 'LoadRandomResizedCrop'


def find_steps(node: object, names: tuple[str, ...] = LOADERS) -> Iterator[Any]:
    """Yield the settings of all pipeline steps of these names inside settings."""
    return (step for _, step in walk_dicts(node) if type_name(step.get('type')) in names)


def read_mask_ratio(cfg: dict) -> float:
    """Return the share of units that the masks of a config's training data hide; 0.6 if nothing says it."""
    steps = find_steps(cfg.get('train_dataloader'), ('ComplementaryMask',))
    return next((step['ratio'] for step in steps if 'ratio' in step), 0.6)


def read_loading(cfg: dict) -> dict:
    """Return how images are read, by the first pipeline of a config that loads them with one of our steps.

    Returns:
        ``channels``, and where they are set ``value_range`` and ``max_pixels``, as :func:`.read_image` takes them.
        Other pipelines have the channels that the backbone takes, three if it does not say.
    """
    for step in find_steps([cfg.get(f'{part}_dataloader') for part in ('train', 'test', 'val')]):
        found = {key: step.get(key) for key in ('value_range', 'max_pixels') if step.get(key) is not None}
        return dict(channels=step.get('channels', 3), **found)
    return dict(channels=((cfg.get('model') or {}).get('backbone') or {}).get('in_channels', 3))


def read_normalisation(preprocessor: dict, pipelines: str) -> dict:
    """Return what is done to images before a backbone sees them.

    Args:
        preprocessor: Settings of a data preprocessor of any toolbox.
        pipelines: The text of the pipeline that the backbone was trained with.

    Returns:
        ``mean`` and ``std`` of pixels of 0 to 255 (None: as they are), and the ``channel_order`` that they, and the
        backbone, take three channels in: ``'RGB'``, or ``'BGR'`` where the pipeline reads that and nothing turns it.
    """
    reads_bgr = "LoadImageFromFile'" in pipelines  # by name, or the repr of the class
    turns = any(preprocessor.get(name) for name in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'))
    order = 'BGR' if reads_bgr != turns else 'RGB'
    return dict(mean=preprocessor.get('mean'), std=preprocessor.get('std'), channel_order=order)


def note_builds() -> None:
    """Attach to each build error the registries and settings that were being built: ``error.builds``.

    The innermost comes first. All registries build by ``Registry.build``, whichever function they have for it.
    """
    build = Registry.build
    if hasattr(build, '__wrapped__'):
        return

    @wraps(build)
    def build_or_note(registry: Registry, cfg: dict, *args: Any, **kwargs: Any) -> Any:
        try:
            return build(registry, cfg, *args, **kwargs)
        except Exception as error:
            error.builds = [*getattr(error, 'builds', ()), (registry, cfg)]  # type: ignore[attr-defined]
            raise

    Registry.build = build_or_note


def explain_type(kind: str, asked: Registry) -> str:
    """Name the type that comes near one that mmengine's registries, from the one asked up, do not have."""
    root = asked
    while root.parent is not None:
        root = root.parent
    names: dict[str, str] = {}  # as a config of this scope writes them, by what stands after the scope
    for scope, child in root.children.items():
        if scope == 'coma_mm':
            child.import_from_location()
        names |= {name: f'{scope}.{name}' for name in child.module_dict}
    names |= {name: name for name in (*root.module_dict, *asked.module_dict)}
    scope, _, plain = kind.rpartition('.')
    if scope in root.children:
        names |= {name: f'{scope}.{name}' for name in root.children[scope].module_dict}
    found = nearest(plain, names)
    advice = f'did you mean {names[found]!r}?' if found else 'is its package installed, its module in custom_imports?'
    return f'there is no {root.name} of type={kind!r}; {advice}'
