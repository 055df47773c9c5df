"""Decoders: from the visible units' tokens to one prediction per unit.

Shapes: B images, U = Hu * Wu units, K of them encoded, E tokens of no unit, t tokens along a unit's side and C channels
in a stage of the encoder, D decoder width, V values of a unit's pixels. B' and U' are what is kept of B and U.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.arguments import DEEPEST, require_number, require_whole
from .attention import MSA, Keep, identity
from .layers import Block, initialize_linear
from .mask_units import UNIT_SIDE, sincos_positions


class MaskedDecoder(BaseModule):
    """Common part of both decoders: embed the encoded units, append mask tokens, run the blocks, predict.

    Embedding a stage is a convolution with kernel = stride = the unit's side there (one matrix product). With several
    stages the results are summed (fusion of stages, as in Hiera).

    Args:
        in_channels: values per unit, t * t * C, of each stage that the encoder returns; one number for one stage.
        out_channels: V.
        dim: D.
        extra_tokens: E, tokens of no unit that the encoder hands over before the others, such as a ViT's class token.
            They are attended to, not predicted. Only with one token per unit.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: if a number is none, too small, or ``dim`` is no multiple of 4.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        dim: int,
        extra_tokens: int = 0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        require_whole(1, **{f'in_channels[{i}]': channels for i, channels in enumerate(self.in_channels)})
        require_whole(1, out_channels=out_channels, dim=dim)
        require_whole(0, extra_tokens=extra_tokens)
        if dim % 4:
            raise ValueError(f'dim must be a multiple of 4 (sines and cosines of y and x), got {dim}')
        self.out_channels = out_channels
        self.dim = dim
        self.extra_tokens = extra_tokens
        self.embeddings = nn.ModuleList(nn.Linear(channels, dim) for channels in self.in_channels)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.prediction = nn.Linear(dim, out_channels)

    def append_mask_tokens(self, tokens: Sequence[Tensor], idx: Tensor, num_units: int) -> Tensor:
        """Embed the encoded units, and put them in their places among mask tokens.

        Args:
            tokens: for each stage ``(B, K * t * t, C)``, or ``(B, E + K, C)``.
            idx: ``(B, K)``, the unit that each K came from.
            num_units: U.

        Returns:
            ``(B, E + U, D)``, row-major, without positions.
        """
        B, K = idx.shape
        embedded = sum(
            embed(stage.reshape(B, self.extra_tokens + K, -1)) for embed, stage in zip(self.embeddings, tokens)
        )
        extra, of_units = embedded.split((self.extra_tokens, K), 1)
        gaps = self.mask_token.to(embedded.dtype).expand(B, num_units, -1)
        filled = gaps.scatter(1, idx[..., None].expand_as(of_units), of_units)
        return torch.cat([extra, filled], 1) if self.extra_tokens else filled

    @abstractmethod
    def forward_blocks(self, x: Tensor, grid: tuple[int, int], keep: Keep) -> Tensor:
        """Run the blocks on all units, ``(B, E + U, D)`` to what ``keep`` leaves of the ``(B, U, D)``."""

    def forward(self, x: Tensor, grid: tuple[int, int], keep: Keep = identity) -> Tensor:
        """Predict pixels from filled units.

        Args:
            x: ``(B, E + U, D)``.
            grid: ``(Hu, Wu)``.
            keep: chooses the units whose prediction is wanted, ``(B, U, D)`` to ``(B', U', D)``. The others are left
                out after the last block's attention or convolution, where they are last needed.

        Returns:
            ``(B', U', V)``.
        """
        return self.prediction(self.features(x, grid, keep))

    def features(self, x: Tensor, grid: tuple[int, int], keep: Keep = identity) -> Tensor:
        """Return the features that pixels are predicted from, ``(B', U', D)``; arguments as of ``forward``."""
        positions = sincos_positions(grid, 1, self.dim, device=x.device, dtype=self.mask_token.dtype)
        positions = F.pad(positions[:, 0], (0, 0, self.extra_tokens, 0))  # zero for what has no place
        return self.norm(self.forward_blocks(x + positions, grid, keep))

    def resize_patches(self, weights: dict[str, Tensor], old: int) -> dict[str, Tensor]:
        """Fit weights that were trained on patches of another size: the pixels that they predict are scaled.

        Args:
            weights: of the decoder of a DyViT, by its own names.
            old: side of the patches in pixels.
        """
        names, side = ('prediction.weight', 'prediction.bias'), UNIT_SIDE * old
        channels = len(weights.get(names[0], ())) // side**2
        new_side = math.isqrt(self.out_channels // max(1, channels))
        if side == new_side or any(len(weights.get(name, ())) != channels * side**2 for name in names):
            return weights  # loading says what does not fit

        def scale(rows: Tensor) -> Tensor:
            """Scale the image in each column, ``(C * side * side, N)`` to ``(C * new_side * new_side, N)``."""
            images = rows.float().T.unflatten(1, (channels, side, side))
            return F.interpolate(images, (new_side, new_side), mode='bilinear', antialias=True).flatten(1).T

        weight, bias = (weights[name] for name in names)
        return weights | dict(zip(names, (scale(weight), scale(bias[:, None])[:, 0])))


@MODELS.register_module()
class ViTDecoder(MaskedDecoder):
    """Plain transformer decoder (paper: 8 ViT blocks; width and heads as in MAE).

    Further arguments are those of :class:`MaskedDecoder`.

    Args:
        dim: D, a multiple of 4 and of ``num_heads``.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs over ``dim``.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        dim: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        extra_tokens: int = 0,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_channels, out_channels, dim, extra_tokens, init_cfg)
        require_whole(1, DEEPEST, depth=depth)
        require_number('(0, inf)', mlp_ratio=mlp_ratio)
        self.blocks = nn.ModuleList(Block(dim, MSA(dim, num_heads), mlp_ratio) for _ in range(depth))
        self.apply(initialize_linear)

    def forward_blocks(self, x: Tensor, grid: tuple[int, int], keep: Keep) -> Tensor:
        """Attend over all units."""
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x, None, lambda x: keep(x[:, self.extra_tokens :]))


class ConvNeXtBlock(nn.Module):
    """Depth-wise convolution, LN, MLP (ratio 4), residual; channels last."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, grid: tuple[int, int], keep: Keep = identity) -> Tensor:
        """Transform, ``(B, U, D)`` to what ``keep`` leaves of it."""
        mixed = self.conv(x.unflatten(1, grid).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        return keep(x) + self.mlp(self.norm(keep(mixed)))


@MODELS.register_module()
class ConvNeXtDecoder(MaskedDecoder):
    """Convolutional decoder on the grid of units (the partner of the paper's ablation).

    Further arguments are those of :class:`MaskedDecoder`.

    Args:
        depth: number of blocks.
        kernel_size: side of the depth-wise convolution in units, odd.
        extra_tokens: 0; a convolution has no place for others.

    Raises:
        ValueError: if there are extra tokens.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        dim: int = 512,
        depth: int = 8,
        kernel_size: int = 7,
        extra_tokens: int = 0,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_channels, out_channels, dim, init_cfg=init_cfg)
        require_whole(1, DEEPEST, depth=depth, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(
                f'kernel_size must be odd, so that a unit is in the middle of what it sees, got {kernel_size}'
            )
        if extra_tokens:
            raise ValueError('ConvNeXtDecoder mixes units by their places, and a class token has none; use ViTDecoder')
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, kernel_size) for _ in range(depth))
        self.apply(initialize_linear)

    def forward_blocks(self, x: Tensor, grid: tuple[int, int], keep: Keep) -> Tensor:
        """Convolve over the grid of units."""
        for block in self.blocks[:-1]:
            x = block(x, grid)
        return self.blocks[-1](x, grid, keep)
