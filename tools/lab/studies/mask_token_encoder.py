"""Complementary masking for backbones that cannot leave units out.

Shapes: B images, U = Hu * Wu units, K of them visible, C channels of the last map.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from coma_mm.masking import unit_grid
from coma_mm.models.mask_units import take_units
from coma_mm.registry import MODELS


@MODELS.register_module()
class MaskTokenEncoder(BaseModule):
    """A backbone of a toolbox as the encoder of CoMA: embedded patches of hidden units become a learnt mask token.

    As in SimMIM: hidden units cost as much as visible ones, and visible tokens may look at the mask tokens. Units are
    hidden before the first block, so the tokens of visible ones know nothing of hidden pixels.

    Args:
        backbone: config or module; ``backbone(images)`` returns maps, the last of which has one position per unit.
        embedding: name of the submodule that embeds patches and returns ``(B, N, C0)`` tokens, row-major, and their
            height and width.
        embed_dims: C0.
        unit_size: side of a unit in pixels, the stride of the last map.
        out_channels: C.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        embedding: str,
        embed_dims: int,
        unit_size: int,
        out_channels: int,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        self.mask_token = nn.Parameter(torch.randn(embed_dims) * 0.02)
        self.unit_size = unit_size
        self.unit_channels = (out_channels,)
        self._visible: Tensor | None = None  # (B, 1, Hu, Wu) while units are hidden
        self.backbone.get_submodule(embedding).register_forward_hook(self._hide)

    def forward(self, x: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode whole images ``(B, 3, H, W)``, or the visible units ``(B, K)`` of each.

        Returns:
            The backbone's maps, or with ``ids_keep`` one tensor ``(B, K, C)`` in a tuple.
        """
        if ids_keep is None:
            return self.backbone(x)
        grid = unit_grid(x.shape[-2:], self.unit_size)
        visible = torch.zeros(len(x), grid[0] * grid[1], dtype=torch.bool, device=x.device)
        self._visible = visible.scatter(1, ids_keep, True).view(-1, 1, *grid)
        try:
            tokens = self.backbone(x)[-1].flatten(2).transpose(1, 2)
        finally:
            self._visible = None
        return (take_units(tokens, ids_keep),)

    def train(self, mode: bool = True) -> 'MaskTokenEncoder':
        """Set the mode and return the encoder, which mmpretrain's backbones forget."""
        super().train(mode)
        return self

    def _hide(self, module: nn.Module, inputs: tuple, outputs: tuple) -> tuple | None:
        if self._visible is None:
            return None
        tokens, (height, width) = outputs
        scale = height // self._visible.shape[2]
        visible = self._visible.repeat_interleave(scale, 2).repeat_interleave(scale, 3).view(len(tokens), -1, 1)
        return torch.where(visible, tokens, self.mask_token.to(tokens.dtype)), (height, width)
