"""A plain ViT as the encoder of CoMA: mmpretrain's, with one path for visible units added.

Shapes: B images, H x W pixels, patches of p x p px (the mask units here), K of them encoded, C channels.

The only model file that imports mmpretrain. It is imported when ``coma_mm.MaskedViT`` is first asked for, so that DyViT
stays usable without mmpretrain.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from torch import Tensor

from ..masking import unit_grid
from ..registry import MODELS
from ..utils.arguments import require_flag, require_whole
from ..utils.configs import list_configs
from .dyvit import check_channels
from .layers import initialize_linear
from .mask_units import sincos_positions, split_units


@MODELS.register_module()
class MaskedViT(VisionTransformer):
    """mmpretrain's VisionTransformer that can encode only some of its patches; same arguments, weights and key names.

    As in MAE, positions are fixed sines and cosines, and linear layers start Xavier-uniform. The class token is encoded
    too. MAE's decoder sees it; CoMA's does not, since two branches would bring two of them.

    Args:
        arch: as in mmpretrain, e.g. ``'base'``.
        img_size: the size of all images in pixels.
        patch_size: side of a patch in pixels; patches are the mask units here.
        out_type: what ``forward(images)`` returns; ``'featmap'`` gives one map ``(B, C, H / p, W / p)``.
        decode_cls_token: hand the class token over to the decoder, before the visible patches' tokens.
        **kwargs: mmpretrain's other arguments.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        out_type: str = 'featmap',
        decode_cls_token: bool = False,
        **kwargs: Any,
    ):
        require_whole(1, patch_size=patch_size)
        require_flag(decode_cls_token=decode_cls_token)
        super().__init__(arch=arch, img_size=img_size, patch_size=patch_size, out_type=out_type, **kwargs)
        self.unit_size = patch_size
        self.unit_channels = (self.embed_dims,)
        self.in_channels = self.patch_embed.projection.in_channels
        self.extra_tokens = self.num_extra_tokens if decode_cls_token else 0
        # Arguments that a checkpoint must match.
        self.settings = dict(arch=dict(self.arch_settings), img_size=tuple(self.img_size), patch_size=patch_size)
        self.pos_embed.requires_grad_(False)

    def init_weights(self) -> None:
        """Draw MAE's initial weights, or load those that ``init_cfg`` names and leave them as they are."""
        super(VisionTransformer, self).init_weights()  # mmpretrain's own draws positions, which are fixed here
        if any(config.get('type') == 'Pretrained' for config in list_configs(self.init_cfg)):
            return
        table = sincos_positions(self.patch_resolution, 1, self.embed_dims)[:, 0]
        self.pos_embed.data[:, -len(table) :] = table
        self.pos_embed.data[:, : -len(table)] = 0
        self.apply(initialize_linear)
        torch.nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        if self.cls_token is not None:
            torch.nn.init.normal_(self.cls_token, std=0.02)

    def train(self, mode: bool = True) -> 'MaskedViT':
        """Set the mode and return the model, which mmpretrain's backbones forget."""
        super().train(mode)
        return self

    def _format_output(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Shape the last layer's tokens as ``out_type`` says; maps also of no image, which mmpretrain cannot."""
        if self.out_type != 'featmap':
            return super()._format_output(x, hw)
        return x[:, self.num_extra_tokens :].unflatten(1, tuple(hw)).permute(0, 3, 1, 2)

    def forward(self, x: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode whole images as mmpretrain does, or the visible patches of each.

        Args:
            x: ``(B, in_channels, H, W)``.
            ids_keep: ``(B, K)`` row-major numbers of the patches to encode, in any order.

        Returns:
            What ``out_type`` says, or with ``ids_keep`` one tensor ``(B, K, C)`` in a tuple, with
            ``decode_cls_token`` ``(B, 1 + K, C)``.

        Raises:
            ValueError: with ``ids_keep``, if the images have another size than ``img_size``, or other channels.
        """
        if ids_keep is None:
            return super().forward(x)
        if (grid := unit_grid(x.shape[-2:], self.unit_size)) != tuple(self.patch_resolution):
            raise ValueError(
                f'images of {tuple(x.shape[-2:])} px have {grid} patches, and positions are those of '
                f'{tuple(self.patch_resolution)}: set img_size of the backbone to {tuple(x.shape[-2:])}'
            )
        check_channels(x, self.in_channels)
        projection = self.patch_embed.projection
        patches = split_units(x, self.unit_size, ids_keep).flatten(2)
        patches = F.linear(patches, projection.weight.flatten(1), projection.bias)
        extra = self.num_extra_tokens
        tokens = patches + self.pos_embed[0, extra:][ids_keep]
        if extra:
            tokens = torch.cat([(self.cls_token + self.pos_embed[:, :extra]).expand(len(x), -1, -1), tokens], 1)
        tokens = self.pre_norm(self.drop_after_pos(tokens))
        for layer in self.layers:
            tokens = layer(tokens)
        return (self.ln1(tokens[:, extra - self.extra_tokens :]),)
