"""Dynamic Multi-Window Self-Attention, and plain attention to compare it with.

Shapes: B images, U units in any order, N tokens (Z-order inside a unit), C channels, h heads, d = C / h channels a
head, w window side in tokens, M keys: N / w**2 for each window w that a head sees.

Tokens of a window are w * w neighbours in memory (``mask_units``). So a strided convolution with kernel = stride = w is
a ``view`` and a ``Linear``, and a depth-wise one is a ``view`` and a weighted sum. Windows lie inside units, so it is
the same convolution with and without masking.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.arguments import require_flag, require_whole
from .mask_units import as_int

# An entry for each run of equally large attention blocks: (blocks, tokens per block).
AttnBlocks = tuple[tuple[int, int], ...]
# Choice of the tokens to go on with, (B, N, C) to (B', N', C).
Keep = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """Keep all tokens."""
    return x


def attend(q: Tensor, k: Tensor, v: Tensor, attn_blocks: AttnBlocks | None = None) -> Tensor:
    """Compute scaled dot-product attention over all tokens, or inside blocks of neighbouring ones.

    Args:
        q: ``(B, N, h, d)``.
        k: ``(B, M, h, d)``, M / U for each unit, in the order of the tokens' units.
        v: ``(B, M, h, d)``.
        attn_blocks: runs of equal blocks, in order, covering all N tokens; ``None`` for global attention.

    Returns:
        ``(B, N, h, d)``.
    """
    if q.device.type == 'cpu' and q.dtype == torch.bfloat16:
        # On CPUs (AVX512-BF16) SDPA in bf16 is no faster, and backwards on few tokens it takes several times as long.
        with torch.autocast('cpu', enabled=False):
            return attend(q.float(), k.float(), v.float(), attn_blocks).to(q.dtype)
    if attn_blocks is None:
        # 4-D on purpose: with 5-D inputs SDPA silently takes its slow path.
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    N, M, outs, start = as_int(q.shape[1]), as_int(k.shape[1]), [], 0
    for count, length in attn_blocks:
        stop = start + count * length
        part_q, part_k, part_v = (
            x[:, start * tokens // N : stop * tokens // N].unflatten(1, (count, -1)).flatten(0, 1)
            for x, tokens in ((q, N), (k, M), (v, M))
        )
        outs.append(attend(part_q, part_k, part_v).unflatten(0, (-1, count)).flatten(1, 2))
        start = stop
    return outs[0] if len(outs) == 1 else torch.cat(outs, 1)


class MSA(nn.Module):
    """Multi-head self-attention over all tokens given.

    Args:
        dim: C.
        num_heads: h, divides ``dim``.
        qkv_bias: whether the projections to queries, keys and values have a bias.
        kv_window: side in tokens of the windows whose keys and values are averaged to one, M = N / w**2; 1 for none.
            It needs no weights: the mean of projected tokens is the projection of their mean.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, kv_window: int = 1):
        super().__init__()
        _check_heads(dim, num_heads)
        require_flag(qkv_bias=qkv_bias)
        self.num_heads = num_heads
        self.kv_window = kv_window
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attn_blocks: AttnBlocks | None = None, keep: Keep = identity) -> Tensor:
        """Attend, ``(B, N, C)`` to ``(B, N, C)``; arguments as of :class:`.layers.Block`."""
        q, k, v = split_heads(self, x)
        if self.kv_window > 1:
            k, v = (part.unflatten(1, (-1, self.kv_window**2)).mean(2) for part in (k, v))
        return self.proj(keep(attend(q, k, v, attn_blocks).flatten(2)))


class DMMSA(nn.Module):
    """Dynamic Multi-Window Self-Attention (paper: strided convolutions of varying kernel sizes on keys and values).

    A head sees the image through one window or several. The keys and values of a window come from a convolution with
    kernel = stride = window. The keys of all windows of a head stand in one softmax, so each query weighs the scales
    itself. Queries stay one per token. Heads with the same windows share the convolutions and one call of attention.

    Cost: N queries are compared with N / w**2 keys for each window w. A dense convolution takes as long as plain
    attention's projection to keys and values. A depth-wise one takes 1 / w**2 of that, and one pass over the tokens.

    Args:
        dim: C.
        windows: for each of the h heads the sides in tokens of its windows, one number or several.
        unit_side: tokens along a unit's side; every window must divide it.
        kv_conv: ``'depthwise'`` weighs the positions of a window channel by channel, starting with their mean, then
            projects. ``'averaged'`` mixes all positions and channels at once and starts as the mean, too. ``'dense'``
            is an ordinary convolution, which learns more slowly at first (docs/evidence.md, question 3).
        qkv_bias: whether the projections to queries, keys and values have a bias.

    Raises:
        ValueError: if heads do not divide ``dim``, or ``kv_conv`` is unknown. Also if a window does not divide the
            unit, or stands twice in a head.
    """

    def __init__(
        self,
        dim: int,
        windows: Sequence[int | Sequence[int]],
        unit_side: int,
        kv_conv: str = 'depthwise',
        qkv_bias: bool = True,
    ):
        super().__init__()
        self.num_heads = len(windows)
        _check_heads(dim, self.num_heads)
        if kv_conv not in KV_CONVS:
            raise ValueError(f'kv_conv must be one of {", ".join(map(repr, KV_CONVS))}, got {kv_conv!r}')
        self.unit_side = unit_side
        # Pairs of windows and the number of heads that see them. Heads of a group are neighbours.
        self.groups = tuple(sorted(Counter(read_head_windows(head, unit_side) for head in windows).items()))
        head_dim = dim // self.num_heads
        conv = KV_CONVS[kv_conv]
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.ModuleList(
            nn.ModuleList(conv(dim, 2 * heads * head_dim, window, qkv_bias) for window in sides)
            for sides, heads in self.groups
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attn_blocks: AttnBlocks | None = None, keep: Keep = identity) -> Tensor:
        """Attend, ``(B, N, C)`` to ``(B, N, C)``; arguments as of :class:`.layers.Block`."""
        outs = []
        for q, scales in self.project(x):
            kv = scales[0] if len(scales) == 1 else torch.cat(scales, 2)
            k, v = kv.flatten(1, 2).unbind(2)  # B, M, h of the group, d
            outs.append(attend(q, k, v, attn_blocks))
        out = outs[0] if len(outs) == 1 else torch.cat(outs, 2)
        return self.proj(keep(out.flatten(2)))

    def project(self, x: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Return for each group of heads its queries ``(B, N, h, d)``, and keys and values of each of its windows.

        Keys and values of a window are ``(B, U, M / U, 2, h, d)``.
        """
        queries = self.q(x).unflatten(-1, (self.num_heads, -1)).split([heads for _, heads in self.groups], 2)
        units = as_int(x.shape[1]) // self.unit_side**2
        return [
            (q, [conv(x).unflatten(1, (units, -1)).unflatten(-1, (2, heads, -1)) for conv in convs])
            for q, (_, heads), convs in zip(queries, self.groups, self.kv)
        ]


def split_heads(attn: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, ``(B, N, h, d)`` each, of :class:`MSA` or of mmpretrain's attention."""
    return attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).unbind(2)


def attention_of(attn: nn.Module, x: Tensor, token: int) -> Tensor:
    """Compute how much a token attends to each of all tokens, averaged over the heads: ``(B, N)``, sums to 1.

    The key of a window stands for all of its tokens alike, and all windows of a head share one softmax.

    Args:
        attn: :class:`DMMSA`, :class:`MSA` without windows, or mmpretrain's ``MultiheadAttention``.
        x: what it gets, ``(B, N, C)``.
        token: number of the one that attends.
    """
    if isinstance(attn, DMMSA):
        groups = [(q, [scale.flatten(1, 2)[:, :, 0] for scale in scales]) for q, scales in attn.project(x)]
    else:
        q, k, _ = split_heads(attn, x)
        groups = [(q, [k])]
    weights = []
    for q, keys in groups:
        scores = [torch.einsum('bhd,bmhd->bhm', q[:, token], k) * q.shape[-1] ** -0.5 for k in keys]
        parts = torch.cat(scores, -1).float().softmax(-1).split([k.shape[1] for k in keys], -1)
        sizes = [x.shape[1] // k.shape[1] for k in keys]  # tokens of a window, neighbours in memory
        weights.append(sum(part.repeat_interleave(size, -1) / size for part, size in zip(parts, sizes)))
    return torch.cat(weights, 1).mean(1)


class WindowConv(nn.Linear):
    """Convolution with kernel = stride = ``window`` on unit-major tokens: ``(B, N, C)`` to ``(B, N / w**2, out)``."""

    def __init__(self, dim: int, out: int, window: int, bias: bool):
        super().__init__(window**2 * dim, out, bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (-1, self.in_features // x.shape[2])).flatten(2))


class DepthwiseWindowConv(nn.Module):
    """Convolution by a weight for each position and channel of a window, then a projection. It starts as the mean.

    Neighbouring tokens are much alike, so the changes of a window's w**2 weights add up. Adam's steps are as large for
    every weight: the keys of an ordinary convolution move w**2 times as far as queries. Here a position has one weight
    per channel, 1 / w at first, and the sum is divided by w: keys move about as far as queries. Weights of 1 under a
    mean would do the same, but learn later to tell the positions apart.
    """

    def __init__(self, dim: int, out: int, window: int, bias: bool):
        super().__init__()
        self.window = window
        self.weight = nn.Parameter(torch.full((window**2, dim), 1 / window))
        self.pointwise = nn.Linear(dim, out, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise((x.unflatten(1, (-1, self.window**2)) * self.weight).sum(2) / self.window)


class AveragedWindowConv(WindowConv):
    """Dense convolution divided by the w**2 positions of a window. It starts as their mean, projected."""

    def __init__(self, dim: int, out: int, window: int, bias: bool):
        super().__init__(dim, out, window, bias)
        self.positions = window**2
        with torch.no_grad():
            self.weight.copy_(nn.init.xavier_uniform_(self.weight[:, :dim]).repeat(1, self.positions))
            if bias:
                self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x.unflatten(1, (-1, self.positions)).flatten(2), self.weight)
        if self.bias is None:
            return out / self.positions
        return torch.add(self.bias.to(out.dtype), out, alpha=1 / self.positions)


KV_CONVS = {'depthwise': DepthwiseWindowConv, 'averaged': AveragedWindowConv, 'dense': WindowConv}


def _check_heads(dim: int, num_heads: int) -> None:
    require_whole(1, num_heads=num_heads, dim=dim)
    if dim % num_heads:
        raise ValueError(f'{num_heads} attention heads do not divide {dim} channels evenly')


def read_head_windows(windows: int | Sequence[int], unit_side: int) -> tuple[int, ...]:
    """Check the windows of a head, and return them in order."""
    windows = tuple(windows) if isinstance(windows, Sequence) else (windows,)
    fitting = [side for side in (1, 2, 4, 8) if side <= unit_side]
    for window in windows:
        if window not in fitting or not isinstance(window, int):
            raise ValueError(
                f'window {window} (of a head with windows {windows}) does not divide a mask unit, which is {unit_side} '
                f'x {unit_side} tokens in this stage; choose from {fitting}'
            )
    if not windows or len(set(windows)) < len(windows):
        raise ValueError(f'a head needs one window or several different ones, got {windows}')
    return tuple(sorted(windows))
