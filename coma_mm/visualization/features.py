"""Pictures of features: main components, attention, and nearest neighbours.

Shapes: B images, H x W pixels, N tokens of a stage (h x w as a map; unit after unit, and Z-order inside, as tokens), C
channels. Q images to find others for, N images to find.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evaluation.features import preprocess
from ..evaluation.reconstruction import to_pixels
from ..masking import unit_grid
from ..models import DyViT
from ..models.attention import attention_of
from ..models.coma import eval_mode
from ..models.compiled import uncompiled
from ..models.mask_units import tokens_to_map
from .figures import ImageGrid, drawn, shorten

NEAREST = 6  # images beside one, at most
CLIPPED = 2  # percent of the values that are drawn as the darkest and as the brightest, each


@dataclass
class Features:
    """A batch of images and their features, on the CPU.

    Args:
        originals: ``(B, C, H, W)`` in [0, 1].
        maps: Output of each stage's last block, ``(B, C, h, w)``, after a LayerNorm without scale or offset.
        attention: Attention of one token to each place, averaged over the heads of each stage's last block:
            ``(B, h, w)``, sums to 1.
        query: Place of that token in the image, ``(y, x)`` as shares of its height and width.
        pooled: ``(B, C)``, the average of the last map.
    """

    originals: Tensor
    maps: list[Tensor]
    attention: list[Tensor]
    query: tuple[float, float]
    pooled: Tensor


@torch.no_grad()
def compute_features(model: nn.Module, images: Tensor, query: tuple[float, float] = (0.5, 0.5)) -> Features:
    """Look into the backbone of a :class:`coma_mm.models.CoMA` while it encodes whole images.

    Args:
        model: On any device; its backbone is a :class:`coma_mm.models.DyViT` or :class:`coma_mm.MaskedViT`.
        images: ``(B, C, H, W)``, uint8, as pipelines hand them to the model's data preprocessor.
        query: Place of the token whose attention is shown, ``(y, x)`` as shares of height and width.

    Raises:
        ValueError: If the backbone is of another kind, or attends in windows.
    """
    backbone = model.backbone
    if getattr(backbone, 'attn_window', None):
        raise ValueError('features of each stage are shown of backbones with attn_window=None')
    last_blocks = _last_blocks(backbone)
    inputs = preprocess(model, images).float()
    with eval_mode(model), uncompiled(model), record_last_call(last_blocks) as seen:
        last_map = backbone(inputs)[-1]
    grid, extra = unit_grid(inputs.shape[-2:], backbone.unit_size), getattr(backbone, 'num_extra_tokens', 0)
    maps, attention = [], []
    for block in last_blocks:
        tokens = seen[block][:, extra:].float()
        side = round((tokens.shape[1] / (grid[0] * grid[1])) ** 0.5)
        size = grid[0] * side, grid[1] * side
        maps.append(tokens_to_map(F.layer_norm(tokens, tokens.shape[-1:]), grid, size).cpu())
        weights = attention_of(block.attn, seen[block.attn], extra + _token_at(query, grid, size))[:, extra:]
        attention.append(tokens_to_map(weights[..., None].float(), grid, size)[:, 0].cpu())
    return Features(to_pixels(model, inputs), maps, attention, query, last_map.float().mean((2, 3)).cpu())


@contextmanager
def record_last_call(blocks: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Record the output of blocks and the input of their attention, each of the last call in this context."""
    seen: dict[nn.Module, Tensor] = {}
    hooks = [block.register_forward_hook(lambda part, _, output: seen.update({part: output})) for block in blocks]
    hooks += [block.attn.register_forward_pre_hook(lambda part, x: seen.update({part: x[0]})) for block in blocks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _token_at(query: tuple[float, float], grid: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the number of the token at a place of a map, given as shares of its height and width."""
    y, x = (min(int(share * side), side - 1) for share, side in zip(query, size))
    numbers = torch.arange(size[0] * size[1]).view(1, -1, 1)
    return int(tokens_to_map(numbers, grid, size)[0, 0, y, x])


def _last_blocks(backbone: nn.Module) -> list[nn.Module]:
    if isinstance(backbone, DyViT):
        return [stage.blocks[-1] for stage in backbone.stages]
    layers = getattr(backbone, 'layers', None)
    if layers is None or not hasattr(layers[-1].attn, 'qkv') or not hasattr(backbone, 'unit_size'):
        raise ValueError(f'features are shown of DyViT and MaskedViT, not of {type(backbone).__name__}')
    return [layers[-1]]


def principal_colours(maps: Tensor) -> Tensor:
    """Show the three directions in which features differ most as red, green and blue, alike for all images.

    Args:
        maps: ``(B, C, h, w)``.

    Returns:
        ``(B, 3, h, w)`` in [0, 1]. Which direction is which colour, and its sign, mean nothing.
    """
    B, C, h, w = maps.shape
    tokens = maps.double().permute(0, 2, 3, 1).reshape(-1, C)
    tokens = tokens - tokens.mean(0)
    directions = torch.linalg.eigh(tokens.T @ tokens).eigenvectors[:, -3:].flip(1)
    # The sign makes the largest entry positive, so that pictures can be repeated.
    directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    values = (tokens @ directions).numpy()
    low, high = np.percentile(values, [CLIPPED, 100 - CLIPPED], axis=0)
    colours = torch.from_numpy(((values - low) / np.maximum(high - low, 1e-9)).clip(0, 1))
    colours = F.pad(colours, (0, 3 - colours.shape[1]))  # of one or two channels
    return colours.view(B, h, w, 3).permute(0, 3, 1, 2).float()


def draw_features(features: Features, path: str | os.PathLike | None = None, names: Sequence[str] = ()) -> np.ndarray:
    """Draw a row per image: of each stage its features' principal components, and its attention.

    Args:
        path: As in :func:`.draw_reconstructions`.
        names: One per image, for the row labels.

    Returns:
        The picture, ``(H, W, 3)``, uint8, RGB.
    """
    size = features.originals.shape[-2:]
    columns, heat = {'original': drawn(features.originals)}, {}
    for number, (maps, attention) in enumerate(zip(features.maps, features.attention), 1):
        stage = f'stage {number}\n' if len(features.maps) > 1 else 'last layer\n'
        columns[f'{stage}PCA'] = F.interpolate(principal_colours(maps), size, mode='nearest')
        attention = attention / attention.amax((1, 2), keepdim=True)
        columns[f'{stage}attention'] = F.interpolate(attention[:, None], size, mode='nearest')
        heat[f'{stage}attention'] = 'inferno'
    grid = ImageGrid(
        columns,
        [shorten(str(name)) for name in names],
        "PCA: a stage's three main directions as red, green and blue, the same for all images. Attention of the last "
        'block of each stage\nfrom the place marked by a cross, averaged over the heads (black none, bright most).',
        heat,
        height=1.15,
    )
    marked = [j for j, title in enumerate(columns) if title == 'original' or title in heat]
    y, x = zip(*(grid.at(i, j, *features.query) for i in range(len(features.originals)) for j in marked))
    grid.axes.plot(x, y, '+', color='cyan', markersize=6, markeredgewidth=1)
    return grid.finish(path)


def find_nearest(features: Tensor, gallery: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the features of a gallery ``(N, C)`` that are most like given ones ``(Q, C)``.

    Channels are standardised by the mean and deviation of all; likeness is the cosine.

    Returns:
        Likeness and numbers in the gallery, ``(Q, min(count, N))`` each, the most like first.
    """
    deviation, mean = torch.std_mean(torch.cat([features, gallery]), 0, unbiased=False)
    one, others = (F.normalize((x - mean) / (deviation + 1e-6), dim=1) for x in (features, gallery))
    return (one @ others.T).topk(min(count, len(gallery)), dim=1)


def draw_neighbours(queries: Tensor, features: Tensor, gallery: Tensor, gallery_features: Tensor) -> np.ndarray:
    """Draw a few images and beside each those whose pooled features are most like its own (:func:`find_nearest`).

    Args:
        queries: ``(Q, C, H, W)`` in [0, 1].
        features: ``(Q, C)``.
        gallery: ``(N, C, H, W)``, images to find, without the queries.
        gallery_features: ``(N, C)``.

    Returns:
        The picture, ``(H, W, 3)``, uint8, RGB.
    """
    likeness, nearest = find_nearest(features, gallery_features, NEAREST)
    columns = {'image': drawn(queries)}
    for i in range(nearest.shape[1]):
        columns['nearest' if i == 0 else f'{i + 1}.'] = drawn(gallery[nearest[:, i]])
    grid = ImageGrid(columns, height=1.15)
    for i, row in enumerate(likeness.tolist()):
        for j, value in enumerate(row, 1):
            y, x = grid.at(i, j, 0.96, 0.04)
            grid.axes.text(x, y, f'{value:.2f}', fontsize=7, color='white', va='bottom').set_bbox(
                dict(facecolor='black', alpha=0.6, pad=1, linewidth=0)
            )
    return grid.finish()
