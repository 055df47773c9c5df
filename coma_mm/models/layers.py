"""Parts of encoder and decoder: stochastic depth, layer scale, the transformer block, initial weights.

Shapes: B images, N tokens, C channels.
"""

import torch
from torch import Tensor, nn

from ..utils.arguments import require_whole
from .attention import AttnBlocks, AveragedWindowConv, Keep, identity


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch for whole samples, keep the expectation."""

    def __init__(self, rate: float):
        super().__init__()
        self.active = rate > 0
        # A tensor, since torch.compile would make code of its own for each block's number.
        self.register_buffer('kept', torch.tensor(1 - rate), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of ``(B, N, C)``; the identity in eval mode or at rate 0."""
        if not self.training or not self.active:
            return x
        return x * (torch.bernoulli(self.kept.expand(x.shape[0], 1, 1)) / self.kept).to(x.dtype)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, dim: int, init: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Block(nn.Module):
    """Pre-norm transformer block: LN, attention, LN, MLP, each with a residual.

    Args:
        dim: C.
        attn: attention module, ``forward(x, attn_blocks, keep)``.
        mlp_ratio: hidden width of the MLP over ``dim``.
        drop_path: rate of stochastic depth.
        layer_scale: initial value of the residual branches' learned scale; ``None`` for none.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        require_whole(1, **{'mlp_ratio times the channels': hidden})
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, attn_blocks: AttnBlocks | None = None, keep: Keep = identity) -> Tensor:
        """Transform, ``(B, N, C)`` to ``(B, N, C)``.

        Args:
            x: tokens.
            attn_blocks: restricts attention, see :func:`.attention.attend`.
            keep: chooses the tokens worth going on with, once all have been attended to.
        """
        x = keep(x) + self.drop_path(self.ls1(self.attn(self.norm1(x), attn_blocks, keep)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


def initialize_linear(module: nn.Module) -> None:
    """Draw a linear layer's weights as MAE does (Xavier uniform, zero bias); for ``module.apply``."""
    if isinstance(module, nn.Linear) and not isinstance(module, AveragedWindowConv):  # which has done so, per position
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
