"""DyViT in timm, which knows it once this file is imported: ``import coma_mm.timm``.

::

    timm.create_model('dyvit_tiny', checkpoint_path='backbone.pth', features_only=True, out_indices=(1, 2, 3))

``checkpoint_path`` takes files of ``tools/export.py`` and checkpoints of pre-training, classifiers (with their head),
detectors and segmentors. timm reads the weights alone: settings other than an architecture's own (``patch_size``,
``windows``, ...) have to be given to ``create_model``, or ``arch='from:FILE'``, which takes them from the file.
"""

import codecs
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import adapt_input_conv, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # where all of timm's own models take it from
from torch import Tensor, nn

from .checkpoints.older_names import rename_older
from .checkpoints.pretrained import find_prefix
from .models.architectures import ARCHITECTURES
from .models.dyvit import DyViT
from .models.layers import initialize_linear

__all__ = ['TimmDyViT', 'adapt_weights']


def _statistic(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, by which pickled log histories name their statistics (mean, max, ...)."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    return getattr(HistoryBuffer, name)


_ARRAYS = np.array(0.0).__reduce__()[0], np.ndarray, np.dtype, np.float64(0).__reduce__()[0]
_DTYPES = {type(np.dtype(code)) for code in 'efdbhilqBHILQ?U'} - {np.dtype}
# What may be named by a checkpoint beyond torch's own list: full name -> object.
_DATA = {f'{x.__module__}.{x.__qualname__}': x for x in (Counter, HistoryBuffer, codecs.encode, *_ARRAYS, *_DTYPES)}
_DATA |= {name.replace('_core', 'core'): x for name, x in _DATA.items()}  # numpy 1 named them so, numpy 2 reads both
_DATA |= {name.replace('.core', '._core'): x for name, x in _DATA.items()}
_DATA |= {'builtins.getattr': _statistic, '__builtin__.getattr': _statistic}

# timm reads files by torch.load(weights_only=True), which does not know mmengine's log histories: plain data.
if hasattr(torch.serialization, 'add_safe_globals'):  # since torch 2.4; for older ones export the backbone
    torch.serialization.add_safe_globals([(value, name) for name, value in _DATA.items()])

default_cfgs = generate_default_cfgs(
    {
        f'dyvit_{arch}': dict(
            url='',
            num_classes=1000,
            input_size=(3, 224, 224),
            pool_size=(7, 7),
            crop_pct=0.875,
            interpolation='bicubic',
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            classifier='head.fc',
        )
        for arch in ARCHITECTURES
    }
)


class TimmDyViT(DyViT):
    """DyViT with timm's interface; weights have the names that they have in DyViT, and ``head.fc``.

    Args:
        arch: as DyViT's.
        num_classes: of the linear classifier; 0 for none.
        in_chans: channels of the image.
        global_pool: how the last map is pooled, ``''`` for not at all.
        drop_rate: dropout before the classifier.
        features: whether the norms of all four stages have weights, as those of DyViT's outputs do. Otherwise only the
            last one has, so that a classifier has no weight without a gradient. After pre-training both give the same.
        **settings: DyViT's other arguments. ``img_size`` is that of pre-training: images of any size are accepted.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        features: bool = False,
        **settings: Any,
    ):
        super().__init__(arch, in_channels=in_chans, out_indices=(0, 1, 2, 3), **settings)
        self.in_chans = self.in_channels  # with arch='from:FILE' those of the file
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.head_hidden_size = self.num_features
        self.feature_info = [
            dict(num_chs=channels, reduction=stride, module=f'stages.{i}')
            for i, (channels, stride) in enumerate(zip(self.out_channels, self.strides))
        ]
        if not features:
            self._bare_norms({3})
        self.head = ClassifierHead(self.num_features, num_classes, global_pool, drop_rate)
        self.head.apply(initialize_linear)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # timm's interface, not mmengine's
        """Classify images ``(B, in_chans, H, W)``."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, ``(B, num_features, ceil(H / 32), ceil(W / 32))`` at patch size 4."""
        return self._encode(x, None, (len(self.stages) - 1,))[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the last map and classify, or only pool with ``pre_logits``."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return maps of stages, and the last one unless ``intermediates_only``.

        Args:
            x: images.
            indices: of stages; a number for so many of the last ones, ``None`` for all.
            norm: accepted for timm's sake; each stage's map is normalised.
            stop_early: accepted for timm's sake; stages that nothing returned needs are not computed.
            output_fmt: ``'NCHW'``.
            intermediates_only: leave out the last map.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"the maps of DyViT have output_fmt='NCHW', not {output_fmt!r}")
        last = len(self.stages) - 1
        taken, _ = feature_take_indices(last + 1, indices)
        wanted = sorted({*taken} if intermediates_only else {*taken, last})
        maps = dict(zip(wanted, self._encode(x, None, tuple(wanted))))
        intermediates = [maps[i] for i in taken]
        return intermediates if intermediates_only else (maps[last], intermediates)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps of the stages ``indices`` do not need; return them as numbers from 0."""
        taken, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        self._bare_norms(set(taken))
        blocks = sum(len(stage.blocks) for stage in self.stages)
        for number in [number for number in self.global_positions if int(number) >= blocks]:
            del self.global_positions[number]
        self.num_features = self.feature_info[last]['num_chs']
        if prune_head:
            self.reset_classifier(0, '')
        return taken

    def get_classifier(self) -> nn.Module:
        """Return the linear classifier."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make a new classifier, or none with 0 classes; ``global_pool`` as in the constructor, ``None`` as it was."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations."""
        self.with_cp = enable

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return what timm divides parameters by into layers, in order."""
        blocks = [
            (r'^stages\.(\d+)\.downsample', (0,)),
            (r'^stages\.(\d+)\.blocks\.(\d+)', None),
            (r'^(?:norm|global_positions)', (99999,)),
        ]
        return dict(stem=r'^patch_embed', blocks=r'^stages\.(\d+)' if coarse else blocks)

    def is_optional_weight(self, name: str) -> bool:
        """Say whether a weight may be missing in a checkpoint, or there without this model having it."""
        return name.startswith('head.') or super().is_optional_weight(name)

    def _bare_norms(self, kept: set[int]) -> None:
        """Leave the norms of the other stages without weights."""
        for i in {0, 1, 2, 3} - kept:
            norm = getattr(self, f'norm{i}')
            self.add_module(f'norm{i}', nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False))


def adapt_weights(state_dict: dict[str, Tensor], model: TimmDyViT) -> dict[str, Tensor]:
    """Rename the weights of a checkpoint of any origin as the model names them: timm's ``filter_fn``.

    The first layer of a checkpoint for 3 channels is converted to the model's. Weights that belong to a decoder or a
    detector's heads are left out. A head that the checkpoint lacks keeps its random weights, which the log warns of.
    Norms of stages that the checkpoint did not output start at the identity.
    """
    own, state_dict = model.state_dict(), rename_older(state_dict)
    prefix = find_prefix(state_dict, {name: value for name, value in own.items() if not name.startswith('head.')})
    found = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    found |= {name: value for name, value in state_dict.items() if name.startswith('head.fc.')}
    found = {name: value for name, value in found.items() if name in own or not model.is_optional_weight(name)}
    if 'patch_embed.weight' in found:
        found['patch_embed.weight'] = adapt_channels(found['patch_embed.weight'], model.in_chans, model.patch_size)
    missing = [name for name in own if name not in found and model.is_optional_weight(name)]
    if any(name.startswith('head.') for name in missing):
        logging.getLogger(__name__).warning('The checkpoint has no classifier, so head.fc keeps its random weights.')
    return found | {name: own[name] for name in missing}


def adapt_channels(weight: Tensor, channels: int, patch_size: int) -> Tensor:
    """Convert the first layer's weight ``(dim, 3 * patch_size**2)`` to other channels as timm does; else return it."""
    if weight.ndim != 2 or weight.shape[1] != 3 * patch_size**2:
        return weight
    return adapt_input_conv(channels, weight.unflatten(1, (3, patch_size, patch_size))).flatten(1)


def _adapt_loaded(module: nn.Module, state_dict: dict[str, Tensor], *_: Any) -> None:
    """Adapt what is about to be loaded into a model or into what ``features_only`` wraps around it."""
    model, outer = (module, '') if isinstance(module, TimmDyViT) else (module.model, 'model.')
    adapted = adapt_weights(state_dict, model)
    state_dict.clear()
    state_dict.update({outer + name: value for name, value in adapted.items()})


def _register(arch: str) -> None:
    """Register the DyViT of an architecture with timm, by name."""

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        model = build_model_with_cfg(
            TimmDyViT,
            f'dyvit_{arch}',
            pretrained,
            pretrained_filter_fn=adapt_weights,
            feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls='getter'),
            features=options.get('features_only', False),
            **dict(arch=arch) | options,
        )
        # What create_model's checkpoint_path names is loaded after this, with no filter function.
        model._register_load_state_dict_pre_hook(_adapt_loaded, with_module=True)
        return model

    build.__name__ = build.__qualname__ = f'dyvit_{arch}'  # by which timm registers it
    globals()[build.__name__] = register_model(build)


for _arch in ARCHITECTURES:
    _register(_arch)
