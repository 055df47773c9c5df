"""Hiera as the encoder of CoMA: timm's, whose units of 32 px are named by number.

Shapes: B images, H x W pixels, units of 32 x 32 px, K of them encoded, C channels of a stage. The last stage has one
token a unit.

The only model file that imports timm. It is imported when ``coma_mm.MaskedHiera`` is first asked for.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from timm.models.hiera import Hiera
from torch import Tensor

from ..masking import unit_grid
from ..registry import MODELS
from ..utils.arguments import did_you_mean
from .architectures import read_indices
from .dyvit import check_channels
from .mask_units import take_units

VARIANTS = {
    'tiny': dict(embed_dim=96, num_heads=1, stages=(1, 2, 7, 2)),
    'small': dict(embed_dim=96, num_heads=1, stages=(1, 2, 11, 2)),
    'base': dict(embed_dim=96, num_heads=1, stages=(2, 3, 16, 3)),
    'base_plus': dict(embed_dim=112, num_heads=2, stages=(2, 3, 16, 3)),
    'large': dict(embed_dim=144, num_heads=2, stages=(2, 6, 36, 4)),
}


@MODELS.register_module()
class MaskedHiera(Hiera, BaseModule):
    """timm's Hiera that encodes the units named, with timm's names of weights, so that ``hiera_base_224.mae`` loads.

    Units are masked as in timm's ``forward_features``. The first convolution sees zeros in place of the others' pixels;
    their tokens are left out. A norm follows, timm's ``head.norm``.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'base_plus'`` or ``'large'``.
        img_size: the size of all images in pixels.
        in_channels: channels of the image.
        out_indices: stages whose maps ``forward(images)`` returns; with ``ids_keep`` it is the last stage alone.
        drop_path_rate: rate of stochastic depth of the last block.
        init_cfg: mmengine's; ``dict(type='coma_mm.Pretrained', checkpoint='model.safetensors')`` takes timm's file.

    Raises:
        ValueError: if ``arch`` is unknown.
    """

    def __init__(
        self,
        arch: str = 'base',
        img_size: int = 224,
        in_channels: int = 3,
        out_indices: tuple[int, ...] = (3,),
        drop_path_rate: float = 0.0,
        init_cfg: dict | None = None,
    ):
        if arch not in VARIANTS:
            raise ValueError(f'arch must be one of {", ".join(VARIANTS)}, got {arch!r}{did_you_mean(arch, VARIANTS)}')
        super().__init__(
            (img_size, img_size), in_channels, num_classes=0, drop_path_rate=drop_path_rate, **VARIANTS[arch]
        )
        self.init_cfg = init_cfg
        self.in_channels = in_channels
        self.unit_size = self.mask_unit_size[0] * self.patch_stride[0]
        self.unit_channels = (self.num_features,)
        self.out_indices = read_indices('out_indices', out_indices, 4)
        self._register_load_state_dict_pre_hook(_rename_norm)

    def forward(self, x: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode whole images, or the visible units of each.

        Args:
            x: ``(B, in_channels, img_size, img_size)``.
            ids_keep: ``(B, K)`` row-major numbers of the units to encode, in any order.

        Returns:
            One map ``(B, C, H / stride, W / stride)`` for each of ``out_indices``, the last one's with a norm; or with
            ``ids_keep`` one tensor ``(B, K, C)`` in a tuple.

        Raises:
            ValueError: if the images have another size or other channels.
        """
        check_channels(x, self.in_channels)
        height, width = unit_grid(x.shape[-2:], self.unit_size)
        if [height, width] != self.mask_spatial_shape:
            raise ValueError(f'Hiera takes images of one size: set img_size of the backbone to {x.shape[-1]}')
        if ids_keep is None:
            _, maps = self.forward_features(x, return_intermediates=True)
            maps = [maps[i] if i < 3 else self.head.norm(maps[i]) for i in self.out_indices]
            return tuple(part.permute(0, 3, 1, 2) for part in maps)
        mask = torch.zeros(len(x), height * width, dtype=torch.bool, device=x.device).scatter_(1, ids_keep, True)
        tokens = self.head.norm(self.forward_features(x, mask))  # units in the order of their numbers
        return (take_units(tokens, ids_keep.argsort(1).argsort(1)),)

    def is_optional_weight(self, name: str) -> bool:
        """Say whether a weight belongs to timm's classifier, or is the decoder's of MAE."""
        return name.startswith(('head.', 'decoder', 'mask_token', 'multi_scale_fusion'))


def _rename_norm(state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the norm after the last stage timm's name where weights have that of Hiera's authors."""
    for name in [name for name in state_dict if name.startswith((f'{prefix}encoder_norm.', f'{prefix}norm.'))]:
        state_dict[f'{prefix}head.norm.{name.rpartition(".")[2]}'] = state_dict.pop(name)
