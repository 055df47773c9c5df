"""Dynamic Multi-Window Self-Attention, and the plain attention it is compared with.

Shapes: B images, N tokens (units in any order, Z-order inside), C channels, h heads, d = C / h channels a head,
w window side in tokens, M = N / w**2 windows.

Tokens of a window are w * w neighbours in memory (``mask_units``), so a strided convolution with kernel = stride = w is
a ``view`` and a ``Linear``; windows lie inside units, so it is the same convolution with and without masking.
"""

from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# One entry for each run of equally large attention blocks: (blocks, tokens per block). None: one block, all tokens.
Blocks = tuple[tuple[int, int], ...]
# Which tokens to go on with, (B, N, C) to (B', N', C).
Keep = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """Keep all tokens."""
    return x


def attend(q: Tensor, k: Tensor, v: Tensor, blocks: Blocks | None = None) -> Tensor:
    """Scaled dot-product attention, global or inside blocks of neighbouring tokens.

    Args:
        q: ``(B, N, h, d)``.
        k: ``(B, M, h, d)``; M divides N, key j stands for tokens ``j * N / M`` up to ``(j + 1) * N / M``.
        v: ``(B, M, h, d)``.
        blocks: runs of equal blocks, in order, covering all N tokens; ``None`` for global attention.

    Returns:
        ``(B, N, h, d)``.
    """
    if blocks is None:
        # 4-D on purpose: with 5-D inputs SDPA silently takes its slow path.
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    (B, N), M, outs, start = q.shape[:2], k.shape[1], [], 0
    for count, length in blocks:
        stop = start + count * length
        part_q, part_k, part_v = (
            x[:, start * x.shape[1] // N : stop * x.shape[1] // N].reshape(B * count, -1, *x.shape[2:])
            for x in (q, k, v)
        )
        outs.append(attend(part_q, part_k, part_v).reshape(B, count * length, *q.shape[2:]))
        start = stop
    assert start == N and N % M == 0
    return outs[0] if len(outs) == 1 else torch.cat(outs, 1)


class MSA(nn.Module):
    """Multi-head self-attention over all tokens given.

    Args:
        dim: C.
        num_heads: h, divides ``dim``.
        qkv_bias: whether the projections to queries, keys and values have a bias.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        _check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, blocks: Blocks | None = None, keep: Keep = identity) -> Tensor:
        """Attend, ``(B, N, C)`` to ``(B, N, C)``; ``blocks`` as in :func:`attend`, ``keep`` as in ``dyvit.Block``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        return self.proj(keep(attend(q, k, v, blocks).flatten(2)))


class DMMSA(nn.Module):
    """Dynamic Multi-Window Self-Attention (paper: strided convolutions of varying kernel sizes on keys and values).

    Heads are grouped by window. A group's keys and values come from its own convolution with kernel = stride = window;
    queries stay one per token, and the softmax of each weighs all windows of its group. Cost: a head with window w
    compares N queries with N / w**2 keys. That each head has one window size, and which, is ours.

    Args:
        dim: C.
        windows: window side in tokens of each head; its length is h.
        unit_side: tokens along a unit's side; every window must divide it.
        kv_conv: ``'dense'`` mixes all channels and positions of a window; ``'depthwise'`` weighs the positions channel
            by channel, then projects.
        qkv_bias: whether the projections to queries, keys and values have a bias.

    Raises:
        ValueError: if heads do not divide ``dim``, a window does not divide the unit, or ``kv_conv`` is unknown.
    """

    def __init__(
        self, dim: int, windows: tuple[int, ...], unit_side: int, kv_conv: str = 'dense', qkv_bias: bool = True
    ):
        super().__init__()
        self.num_heads = len(windows)
        _check_heads(dim, self.num_heads)
        for window in windows:
            if window < 1 or unit_side % window:
                fitting = [side for side in (1, 2, 4, 8) if side <= unit_side]
                raise ValueError(
                    f'window {window} (of windows={tuple(windows)}) does not divide a mask unit, which is {unit_side} '
                    f'x {unit_side} tokens in this stage; choose from {fitting}'
                )
        if kv_conv not in ('dense', 'depthwise'):
            raise ValueError(f"kv_conv must be 'dense' or 'depthwise', got {kv_conv!r}")
        head_dim = dim // self.num_heads
        self.groups = tuple(sorted(Counter(windows).items()))  # (window, heads)
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        conv = {'dense': WindowConv, 'depthwise': DepthwiseWindowConv}[kv_conv]
        self.kv = nn.ModuleList(conv(dim, 2 * heads * head_dim, window, qkv_bias) for window, heads in self.groups)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, blocks: Blocks | None = None, keep: Keep = identity) -> Tensor:
        """Attend, ``(B, N, C)`` to ``(B, N, C)``; ``blocks`` as in :func:`attend`, ``keep`` as in ``dyvit.Block``."""
        queries = self.q(x).unflatten(-1, (self.num_heads, -1)).split([heads for _, heads in self.groups], 2)
        outs = []
        for q, (_, heads), conv in zip(queries, self.groups, self.kv):
            k, v = conv(x).unflatten(-1, (2, heads, -1)).unbind(2)  # B, M, h of the group, d
            outs.append(attend(q, k, v, blocks))
        return self.proj(keep(torch.cat(outs, 2).flatten(2)))


class WindowConv(nn.Linear):
    """Convolution with kernel = stride = ``window`` on unit-major tokens: ``(B, N, C)`` to ``(B, N / w**2, out)``."""

    def __init__(self, dim: int, out: int, window: int, bias: bool):
        super().__init__(window**2 * dim, out, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(x.view(x.shape[0], -1, self.in_features))


class DepthwiseWindowConv(nn.Module):
    """Depth-wise convolution with kernel = stride = ``window``, then a 1 x 1 one. Starts as the mean of each window."""

    def __init__(self, dim: int, out: int, window: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.full((window**2, dim), 1 / window**2))
        self.pointwise = nn.Linear(dim, out, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.pointwise((x.unflatten(1, (-1, len(self.weight))) * self.weight).sum(2))


def _check_heads(dim: int, num_heads: int) -> None:
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f'{num_heads} attention heads do not divide {dim} channels evenly')
