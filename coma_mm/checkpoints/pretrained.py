"""Hand-over of weights: from any checkpoint that holds a backbone to the backbone, completely or not at all.

Nothing here runs code from a file: :mod:`coma_mm.checkpoints` reads them.

Weights fit by their shapes alone, and some settings of a backbone leave no trace in those: heads, windows, the image
size that positions are meant for. So checkpoints carry the settings (``meta['backbone']``, JSON), and a backbone with
the attribute ``settings`` is compared with them: plain data, those arguments of its constructor that change what its
weights compute, all defaults filled in.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, initialize, update_init_info
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from ..utils.arguments import require_whole
from ..utils.configs import list_configs
from ..utils.text import first_few
from .bounded_building import bounded_building
from .reading import first_line, get_state_dict, read_checkpoint
from .settings import FROM, NO_SETTINGS, read_settings
from .vit_names import rename_vit

# Settings in which a backbone differs from its checkpoint on purpose.
ADJUSTABLE = ('img_size', 'out_indices', 'attn_window', 'global_blocks', 'global_window', 'drop_path_rate')


def load_weights(
    module: nn.Module,
    state_dict: dict[str, Tensor],
    source: str,
    is_optional: Callable[[str], bool] = lambda key: False,
) -> tuple[list[str], list[str]]:
    """Load all weights of a state dict into all weights of a module, or raise.

    Args:
        module: Without wrappers.
        state_dict: Names as in ``module.state_dict()``.
        source: What the error calls the state dict.
        is_optional: Whether a weight may be missing, or may be there without the module having it.

    Returns:
        The optional weights that were missing, and those that were unexpected.

    Raises:
        ValueError: If they do not fit, with the first differences, or are NaN or infinite.
    """
    shapes, missing, unexpected = [], [], []
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError:  # torch reports other shapes this way, at length
        own = module.state_dict()
        shapes = [
            f'{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in state_dict and state_dict[key].shape != own[key].shape
        ]
        if not shapes:
            raise
    differences = [
        f'{len(found)} {what}: {first_few(found, 2)}'
        for what, found in (
            ('of other shapes', shapes),
            ('missing in the checkpoint', [key for key in missing if not is_optional(key)]),
            ('unknown to the model', [key for key in unexpected if not is_optional(key)]),
        )
        if found
    ]
    if differences:
        raise ValueError(
            f'{source} does not fit the model {type(module).__name__} of this config; is it of another architecture? '
            f'Weights {"; ".join(differences)}'
        )
    loaded = [(key, value) for key, value in module.named_parameters() if key in state_dict and not value.is_meta]
    if broken := [key for key, value in loaded if not value.isfinite().all()]:
        raise ValueError(
            f'{source} has NaN or infinite weights, as of a training that failed: {first_few(broken, 2)}; take an '
            'earlier checkpoint'
        )
    return missing, unexpected


def load_exactly(
    model: nn.Module,
    checkpoint: dict,
    source: str = 'the checkpoint',
    partial: bool | Sequence[str] = False,
) -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What log and error call the checkpoint.
        partial: What may be missing in it, be left over or have another shape: weights whose names start with one of
            these, or any, if only something fits.

    Raises:
        ValueError: If they do not fit, with the first differences, or were trained with other settings of the backbone.
    """
    if isinstance(partial, str):
        partial = [partial]

    def is_optional(key: str) -> bool:
        # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
        comes_and_goes = key.startswith('data_preprocessor.') or key.endswith('num_batches_tracked')
        return comes_and_goes or partial is True or partial is not False and key.startswith(tuple(partial))

    weights, own = get_state_dict(checkpoint), model.state_dict()
    if partial:
        others = [key for key in weights if key in own and weights[key].shape != own[key].shape and is_optional(key)]
        weights = {key: value for key, value in weights.items() if key not in others}
        if not weights.keys() & own.keys():
            raise ValueError(f'{source} has no weight that fits the model {type(model).__name__} of this config')
    missing, unexpected = load_weights(model, weights, source, is_optional)
    if partial:
        found = {'not loaded': missing, 'of another shape': others, 'left over': unexpected}
        print_log(
            f'{type(model).__name__}: matched {len(own) - len(missing)} of {len(own)} tensors in {source}; '
            + '; '.join(
                f'{what}: {first_few(keys, 4) or "none"}{f" ({len(keys)})" if len(keys) > 4 else ""}'
                for what, keys in found.items()
            ),
            'current',
        )
    if hasattr(model, 'backbone'):
        check_settings(model.backbone, checkpoint, source)


def load_backbone(
    backbone: nn.Module, checkpoint: dict, source: str, prefix: str | None = None, from_patch_size: int | None = None
) -> None:
    """Find a backbone's weights in a checkpoint and load all of them.

    Weights may be named as the backbone names them, or with anything before that (``backbone.``, ``module.``,
    ``model.backbone.`` ...); what belongs to heads and decoders is left aside. Norms of stages that only one side
    outputs, and stages after the last output, are no error (the backbone's ``is_optional_weight``).

    Args:
        backbone: Takes the weights.
        checkpoint: A state dict, bare or wrapped, or a checkpoint of mmengine's runner.
        source: What log and error call the checkpoint.
        prefix: What stands before the backbone's names, where the choice should not be left to the function.
        from_patch_size: The weights are of a DyViT, or its decoder, with patches of so many pixels, which are resized.

    Raises:
        ValueError: If the checkpoint holds no such backbone, not all of it, or one of other settings.
    """
    state_dict, own = get_state_dict(checkpoint), backbone.state_dict()
    if not state_dict:
        raise ValueError(f'{source} holds no weights; its keys are {", ".join(map(str, list(checkpoint)[:5]))}')
    if {'patch_embed.projection.weight', 'embeddings.0.weight'} & own.keys():  # a ViT of mmpretrain, or our decoder
        state_dict = rename_vit(state_dict)
    if prefix is None:
        prefix = find_prefix(state_dict, own)
    found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if not found:
        raise ValueError(f'{source} has no weights that start with {prefix!r}; its first is {next(iter(state_dict))}')
    is_optional = getattr(backbone, 'is_optional_weight', lambda key: False)
    if from_patch_size is not None:
        require_whole(1, from_patch_size=from_patch_size)
        if not hasattr(backbone, 'resize_patches'):
            raise ValueError(f'{type(backbone).__name__} cannot resize its patches: leave from_patch_size out')
        found = backbone.resize_patches(found, from_patch_size)
    check_settings(backbone, checkpoint, source, resized=from_patch_size is not None)
    missing, unexpected = load_weights(backbone, found, source, is_optional)
    print_log(
        f'{type(backbone).__name__}: matched {len(own) - len(missing)} of {len(own)} tensors'
        f'{f" after {prefix!r}" if prefix else ""} in {source}; '
        f'missing, as expected: {", ".join(missing) or "none"}; unexpected, not needed: '
        f'{first_few(unexpected, 4) or "none"}; not of the backbone: {len(state_dict) - len(found)}',
        'current',
    )


def check_settings(backbone: nn.Module, checkpoint: dict, source: str, resized: bool = False) -> None:
    """Compare a backbone's settings with those that its weights were trained with, where both sides tell theirs.

    Differences in :data:`ADJUSTABLE` settings are logged.

    Args:
        backbone: Its ``settings`` are compared; nothing is done if it has none.
        checkpoint: See :func:`.read_settings`.
        source: What log and error call the checkpoint.
        resized: Whether the size of patches may differ.

    Raises:
        ValueError: If a setting differs that changes what the weights compute.
    """
    own, arguments = getattr(backbone, 'settings', None), read_settings(checkpoint)
    kind = type(backbone)
    # The class is that of the backbone at hand: nothing that a file names is looked up, let alone called.
    if own is None or arguments is None or str(arguments.get('type')).split('.')[-1] != kind.__name__:
        return
    try:
        arguments = {name: value for name, value in arguments.items() if name not in NO_SETTINGS}
        with torch.device('meta'), bounded_building(get_state_dict(checkpoint), arguments):
            theirs = kind(**arguments).settings
    except Exception as error:  # what stands in a file can be wrong in any way
        raise ValueError(
            f'{source} says that it was trained with settings that {kind.__name__} does not take '
            f'({first_line(error)}), so its weights cannot be trusted to mean the same here; was it written by '
            'another version of coma_mm?'
        ) from None
    own, theirs = (dict(_flatten(json.loads(json.dumps(settings)))) for settings in (own, theirs))
    names = [name for name in own | theirs if own.get(name) != theirs.get(name)]
    adjustable = (*ADJUSTABLE, 'patch_size') if resized else ADJUSTABLE
    meant = [name for name in names if name.split('.')[0] in adjustable]
    if meant:
        differences = ', '.join(f'{name} {theirs.get(name)} there, {own.get(name)} here' for name in meant)
        print_log(f'{kind.__name__}: other settings than in {source}: {differences}', 'current')
    if wrong := [name for name in names if name not in meant]:
        differences = '; '.join(
            f'{name} is {theirs.get(name)} in the checkpoint and {own.get(name)} here' for name in wrong
        )
        raise ValueError(
            f'{source} was trained with other settings of {kind.__name__}, with which its weights compute something '
            f'else: {differences[:1000]}. Set {_list_options(names, wrong, theirs)}'
            + (f', or model.backbone.arch={FROM}{source}, which takes all of it' if kind.__name__ == 'DyViT' else '')
            + (_advise_resizing(own, theirs) if wrong == ['patch_size'] and kind.__name__ == 'DyViT' else '')
        )


def _list_options(names: list[str], wrong: list[str], settings: dict) -> str:
    """Return settings of the backbone as ``--cfg-options`` takes them: those that are wrong, and the image size."""
    values: dict[str, Any] = {name: settings.get(name) for name in names if name in wrong or name == 'img_size'}
    sides = values.get('img_size')
    if isinstance(sides, list) and len(set(sides)) == 1:
        values['img_size'] = sides[0]
    return ' '.join(f'model.backbone.{name}={value}'.replace(' ', '') for name, value in values.items())[:1000]


def _advise_resizing(own: dict, theirs: dict) -> str:
    """Say how a backbone keeps its patches; the image size of pre-training is enlarged along with them."""
    old = theirs['patch_size']
    side = max(theirs['img_size']) * own['patch_size'] // old
    return f', or resize them: model.backbone.init_cfg.from_patch_size={old} model.backbone.img_size={side}'


def _flatten(settings: dict, prefix: str = '') -> Iterator[tuple[str, object]]:
    """Yield settings by dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialises a backbone from any checkpoint that holds one, for ``init_cfg`` (ours).

    In place of mmengine's class of this name, which loads what happens to match and warns about the rest. As with that
    one, what is loaded is what the backbone has after ``init_weights()``: children are initialised before, and other
    initialisers of a list of ``init_cfg``, wherever they stand in it.

    Args:
        checkpoint: A checkpoint of mmengine's runner (of pre-training, classification, detection or segmentation), a
            file of ``tools/export.py``, or a state dict, ``.pth`` or ``.safetensors``.
        prefix: See :func:`load_backbone`.
        from_patch_size: See :func:`load_backbone`.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, from_patch_size: int | None = None):
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.from_patch_size = from_patch_size

    def __call__(self, module: nn.Module) -> None:
        """Load, as the last thing that the module's ``init_weights()`` does, if it is that which calls.

        mmengine goes by the name: it keeps ``Pretrained`` for the end, and classes with an ``init_weights`` of their
        own ask for it before they draw weights. All other names, such as ``coma_mm.Pretrained``, come before the
        children. So the module is given ours by that name, and is initialised anew.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it cannot be read safely, or does not fit, or if the class of the module draws weights
                whatever was loaded.
        """
        arguments = dict(checkpoint=self.checkpoint, prefix=self.prefix, from_patch_size=self.from_patch_size)
        last = dict(type='Pretrained', _scope_='coma_mm', **arguments)
        in_init_weights = isinstance(module, BaseModule) and hasattr(module, '_params_init_info')
        if not in_init_weights or module.init_cfg == last:
            self._load(module)
            return
        configs = list_configs(module.init_cfg)
        others = [config for config in configs if config and config.get('checkpoint') != self.checkpoint]
        initialize(module, deepcopy(others))
        for config in others:  # mmengine would apply those after ours once more
            config.clear()
            config.update(type='Constant', val=0, layer='none')
        module.init_cfg = last
        module.init_weights()
        for child in module.children():
            child.is_init = True  # as BaseModules are by now; mmengine would draw the weights of others again
        info = module._params_init_info
        drawn = [
            name
            for name, parameter in module.named_parameters()
            if not torch.equal(parameter.data.mean().nan_to_num().cpu(), info[parameter]['tmp_mean_value'].nan_to_num())
        ]
        if drawn:
            raise ValueError(
                f'{type(module).__name__}.init_weights() draws {len(drawn)} weights after it has loaded '
                f'{self.checkpoint} ({", ".join(drawn[:2])}, ...), so init_cfg cannot load them; use '
                'load_from=FILE of the config, or coma_mm.models.load_backbone after init_weights()'
            )

    def _load(self, module: nn.Module) -> None:
        try:
            checkpoint = read_checkpoint(self.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: name another with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train from '
                'random weights with model.backbone.init_cfg=None'
            ) from None
        load_backbone(module, checkpoint, str(self.checkpoint), self.prefix, self.from_patch_size)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'coma_mm.Pretrained: {self.checkpoint}')


def find_prefix(state_dict: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return what stands before a backbone's names, in case of doubt the shortest, such as ``backbone.``."""
    first = next(iter(own))
    candidates = {key.removesuffix(first) for key in state_dict if key == first or key.endswith(f'.{first}')}
    # Evaluation weights of CoMA lie under "evaluation.module."; they are asked for by name only.
    candidates = {prefix for prefix in candidates if not prefix.startswith('evaluation.')} or candidates
    matches = {prefix: sum(prefix + name in state_dict for name in own) for prefix in candidates | {''}}
    return min(matches, key=lambda prefix: (-matches[prefix], len(prefix)))
