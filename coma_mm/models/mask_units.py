"""Geometry of units: where every pixel and token lies.

Shapes: B images, H x W pixels, p patch size, s unit size in pixels (8 p in DyViT, p in a plain ViT), U = Hu * Wu units
of the image (row-major), n of them hidden. K <= U units are taken. t tokens along a unit's side (8, 4, 2, 1 in stages
1-4), N tokens of all units, C channels.

Tokens travel as ``(B, K * t * t, C)``: unit after unit, and in Z-order (Morton) inside a unit. Every 2x2, 4x4 or 8x8
block of tokens is then a run of 4, 16 or 64 neighbours in memory. Down-sampling, like any convolution with kernel =
stride, is a ``view`` and one matrix product. Leaving units out changes nothing for those that stay.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..masking import unit_grid

UNIT_SIDE = 8  # stage-1 tokens along the side of a unit


class MaskedUnits(NamedTuple):
    """The units that each branch sees of a batch of images.

    Args:
        grid: ``(Hu, Wu)``.
        ids_keep: ``(B, U - n)``, the units that the adaptive branch sees.
        ids_mask: ``(B, n)``, those that are hidden from it, and that the evaluation branch sees.
    """

    grid: tuple[int, int]
    ids_keep: Tensor
    ids_mask: Tensor


def hidden_mask(masked: MaskedUnits) -> Tensor:
    """Return the mask as bool ``(B, U)``, True = hidden from the adaptive branch."""
    units = masked.grid[0] * masked.grid[1]
    blank = torch.zeros(len(masked.ids_mask), units, dtype=torch.bool, device=masked.ids_mask.device)
    return blank.scatter(1, masked.ids_mask, True)


def read_masked_units(images: Tensor, data_samples: Sequence | dict | None, unit_size: int) -> MaskedUnits:
    """Return which units are masked. The lengths of the lists are the mask ratio.

    Args:
        images: ``(B, C, H, W)``.
        data_samples: a dict of ``ids_keep`` ``(B, U - n)`` and ``ids_mask`` ``(B, n)``, from ``PackMaskedImage``,
            or of ``mask`` (bool, ``(B, Hu, Wu)``); or a data sample with ``mask`` ``(Hu, Wu)`` for each image. Masks
            have to be counted, for which the CPU waits for the GPU.
        unit_size: side of a unit in pixels.

    Raises:
        ValueError: if the images do not divide into units, or masks are missing or do not fit them. Also if masks hide
            different numbers of units, or leave a branch without one.
    """
    grid = unit_grid(map_size(images), unit_size)
    if not isinstance(data_samples, dict):
        masks = [sample.mask for sample in data_samples or () if 'mask' in sample]
        data_samples = dict(mask=torch.stack(masks)) if masks else {}
    if 'ids_keep' in data_samples and 'ids_mask' in data_samples:
        ids = data_samples['ids_keep'], data_samples['ids_mask']
        batch, units = len(ids[0]), ids[0].shape[1] + ids[1].shape[1]
        if batch != len(images) or units != grid[0] * grid[1]:
            raise ValueError(_misfit(f'masks of {units} units for {batch} images', images, grid, unit_size))
        return MaskedUnits(grid, *(part.to(images.device) for part in ids))
    mask = data_samples.get('mask')
    if mask is None:
        raise ValueError("the samples carry no mask; add dict(type='coma_mm.ComplementaryMask', ...) to the pipeline")
    if mask.shape != (len(images), *grid):
        raise ValueError(_misfit(f'masks of shape {tuple(mask.shape)}', images, grid, unit_size))
    hidden = mask.to(images.device, torch.bool).flatten(1)
    counts, units = hidden.sum(1).unique().tolist(), hidden.shape[1]
    if len(counts) > 1 or counts and not 0 < counts[0] < units:
        raise ValueError(f'masks hide {counts} of {units} units: hide as many of each image, one at least and not all')
    count = counts[0] if counts else 1  # of no image
    visible_first = hidden.byte().argsort(dim=1, stable=True)
    return MaskedUnits(grid, *visible_first.split((units - count, count), 1))


def _misfit(what: str, images: Tensor, grid: tuple[int, int], unit_size: int) -> str:
    return (
        f'{what} do not fit {len(images)} images of {images.shape[2]} x {images.shape[3]} px, which have {grid[0]} x '
        f'{grid[1]} units of {unit_size} px; set input_size and unit_size of ComplementaryMask to those of the images '
        'and the model'
    )


def as_int(size: int) -> int:
    """Return a size as a number: while ``torch.jit`` traces a model, sizes are tensors."""
    return int(size) if isinstance(size, Tensor) else size


def map_size(image: Tensor) -> tuple[int, int]:
    """Return height and width of images or maps ``(..., H, W)`` as numbers."""
    return as_int(image.shape[-2]), as_int(image.shape[-1])


def split_units(image: Tensor, unit_size: int, idx: Tensor | None = None) -> Tensor:
    """Cut an image into units, copying only those asked for.

    Args:
        image: ``(B, C, H, W)``, sides multiples of ``unit_size``.
        unit_size: side of a unit in pixels.
        idx: units to keep, ``(K,)`` for all images alike or ``(B, K)`` for each its own; all U in order if ``None``.

    Returns:
        ``(B, K, C, s, s)``.
    """
    B, C = image.shape[:2]
    Hu, Wu = unit_grid(map_size(image), unit_size)
    units = image.view(B, C, Hu, unit_size, Wu, unit_size).permute(0, 2, 4, 1, 3, 5)  # B, Hu, Wu, C, s, s
    if idx is None:
        return units.reshape(B, Hu * Wu, C, unit_size, unit_size)
    if idx.ndim == 1:
        return units[:, idx // Wu, idx % Wu]
    return units[torch.arange(B, device=idx.device)[:, None], idx // Wu, idx % Wu]


def take_units(x: Tensor, idx: Tensor) -> Tensor:
    """Return the units ``idx`` ``(B, K)`` of each image, ``(B, U, C)`` to ``(B, K, C)``."""
    return x.gather(1, idx[..., None].expand(-1, -1, x.shape[-1]))


def join_units(units: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put all units of an image back in their places, the inverse of :func:`split_units`.

    Args:
        units: ``(B, U, C, s, s)``.
        grid: ``(Hu, Wu)``.

    Returns:
        ``(B, C, H, W)``.
    """
    B, _, C, s, _ = units.shape
    return units.view(B, *grid, C, s, s).permute(0, 3, 1, 4, 2, 5).reshape(B, C, grid[0] * s, grid[1] * s)


def unit_patches(units: Tensor) -> Tensor:
    """Cut units into 8 x 8 pixel patches in Z-order.

    Args:
        units: ``(B, K, C, s, s)``.

    Returns:
        ``(B, K * 64, C * p * p)``, each row laid out like a convolution kernel ``(C, p, p)``.
    """
    B, K, C, s, _ = units.shape
    p = s // UNIT_SIDE
    # Z-order is the interleaving of the bits of y and x: split both into bits, then let them take turns.
    bits = units.reshape(B, K, C, 2, 2, 2, p, 2, 2, 2, p).permute(0, 1, 3, 7, 4, 8, 5, 9, 2, 6, 10)
    return bits.reshape(B, K * UNIT_SIDE**2, C * p * p)


def tokens_to_map(tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return all tokens of an image to raster order.

    Args:
        tokens: ``(B, U * t * t, C)``, units row-major.
        grid: ``(Hu, Wu)``.
        size: height and width of the map; what lies beyond, at most ``(Hu * t, Wu * t)``, is cut off.

    Returns:
        ``(B, C, *size)``, contiguous: kernels of mmcv and views in the toolboxes' heads rely on it.
    """
    B, N, C = tokens.shape
    Hu, Wu = grid
    levels = ((as_int(N) // (Hu * Wu)).bit_length() - 1) // 2  # t = 2 ** levels
    bits = tokens.view(B, Hu, Wu, *(2, 2) * levels, C)
    y = range(3, 3 + 2 * levels, 2)
    x = range(4, 4 + 2 * levels, 2)
    raster = bits.permute(0, bits.ndim - 1, 1, *y, 2, *x).reshape(B, C, Hu * 2**levels, Wu * 2**levels)
    return raster[..., : size[0], : size[1]].contiguous()


def _z_order(side: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return y and x, ``(side * side,)`` each, of a unit's tokens in Z-order."""
    token = torch.arange(side * side, device='cpu')
    y, x = torch.zeros_like(token), torch.zeros_like(token)
    for bit in range(side.bit_length() - 1):
        x |= (token >> 2 * bit & 1) << bit
        y |= (token >> 2 * bit + 1 & 1) << bit
    return y.to(device), x.to(device)


def sincos_axis(
    units: int, side: int, dim: int, scale: float, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """Compute sines and cosines of the places along one axis.

    Args:
        units: number of units along the axis.
        side: tokens along a unit's side.
        dim: channels, half of them sines.
        scale: distance between two tokens.
        device: of the table.
        dtype: of the table; it is computed in float64.

    Returns:
        ``(units * side, dim)``.
    """
    omega = 10000 ** -(torch.arange(dim // 2, dtype=torch.float64, device='cpu') / (dim // 2))
    tokens = torch.arange(units * side, dtype=torch.float64, device='cpu')
    angles = ((tokens + 0.5) * scale - 0.5)[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], -1).to(device, dtype)


def sincos_positions(
    grid: tuple[int, int],
    side: int,
    dim: int,
    scale: tuple[float, float] = (1.0, 1.0),
    period: int | None = None,
    idx: Tensor | None = None,
    device: torch.device | str = 'cpu',
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute fixed 2-D sine-cosine positions for any grid, from one table of its rows and one of its columns.

    Args:
        grid: ``(Hu, Wu)`` units of the image.
        side: tokens along a unit's side, 8 for the encoder's first stage, 1 for one token per unit.
        dim: channels, a multiple of 4: half for y, half for x, each half sines, half cosines.
        scale: distance between two tokens in y and in x. Pre-training's size over the image's size makes a larger
            image see the positions of pre-training, interpolated.
        period: units after which positions start anew; ``None`` for never.
        idx: units wanted, any shape; all U in order if ``None``.
        device: where positions are computed.
        dtype: of the result.

    Returns:
        ``(*idx.shape or U, side * side, dim)``, tokens in Z-order.

    Raises:
        ValueError: if ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f'2-D sine-cosine positions need channels in multiples of 4, got {dim}')
    Hp, Wp = (units if period is None else min(units, period) for units in grid)
    y, x = _z_order(side, device)
    rows, columns = (
        sincos_axis(units, side, dim // 2, distance, device, dtype).view(units, side, -1)[:, inside]
        for units, distance, inside in zip((Hp, Wp), scale, (y, x))
    )  # (Hp, side * side, dim / 2), (Wp, ...)
    table = torch.cat([rows[:, None].expand(-1, Wp, -1, -1), columns.expand(Hp, -1, -1, -1)], -1).flatten(0, 1)
    if idx is None:
        if (Hp, Wp) == tuple(grid):
            return table
        idx = torch.arange(grid[0] * grid[1], device=device)
    return table[idx // grid[1] % Hp * Wp + idx % grid[1] % Wp]


def order_by_blocks(
    grid: tuple[int, int], window: int, device: torch.device | str = 'cpu'
) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
    """Order an image's units so that each block of ``window`` x ``window`` units is contiguous.

    Units left over at the right and the bottom form smaller blocks of their own. Attention is the same as with masked
    padding, but needs no mask and computes no token in vain.

    Args:
        grid: ``(Hu, Wu)``.
        window: side of a block in units.
        device: of the two index tensors.

    Returns:
        ``order`` (U,), the units sorted by block; ``inverse`` (U,), which undoes it; and ``(blocks, units per block)``
        of each kind of block, at most four: whole, right edge, bottom edge, corner.
    """
    units = torch.arange(grid[0] * grid[1], device='cpu').view(grid)
    order, kinds = [], []
    cut_y, cut_x = (side // window * window for side in grid)
    for rows in (slice(0, cut_y), slice(cut_y, None)):
        for columns in (slice(0, cut_x), slice(cut_x, None)):
            part = units[rows, columns]
            if part.numel():
                h, w = (min(side, window) for side in part.shape)
                blocks = part.view(part.shape[0] // h, h, part.shape[1] // w, w).transpose(1, 2).reshape(-1, h * w)
                order.append(blocks.flatten())
                kinds.append(tuple(blocks.shape))
    order = torch.cat(order).to(device)
    return order, order.argsort(), tuple(kinds)
