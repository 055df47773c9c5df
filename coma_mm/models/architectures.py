"""Variants of DyViT by name, and checks of the arguments that a checkpoint must match."""

import math
from collections.abc import Sequence
from typing import Any

from ..checkpoints.reading import read_checkpoint
from ..checkpoints.settings import FROM, read_dyvit
from ..utils.arguments import DEEPEST, did_you_mean, read_size, require_flag, require_number, require_whole
from .attention import read_head_windows
from .mask_units import UNIT_SIDE

# Measured parameters and GMACs: docs/models.md.
ARCHITECTURES = {
    'pico': dict(dims=(32, 64, 128, 256), depths=(1, 1, 4, 1), heads=(4, 8, 4, 8)),
    'tiny': dict(dims=(64, 128, 256, 512), depths=(2, 2, 10, 2), heads=(4, 8, 8, 16)),
    'small': dict(dims=(96, 192, 384, 768), depths=(2, 2, 10, 2), heads=(4, 8, 12, 24)),
    # Heads of 64 channels: those of 32 in stages 1 and 2 take 4 % more time (docs/benchmarks.md).
    'base': dict(dims=(128, 256, 512, 1024), depths=(2, 2, 10, 2), heads=(2, 4, 8, 16)),
    'large': dict(dims=(192, 384, 768, 1536), depths=(2, 2, 16, 2), heads=(4, 8, 12, 24)),
}
# Per stage the windows of all heads, in tokens: 16 and 32 px in both stages at patch size 4.
ATTENTION = 'dm_msa', 'dm_msa', 'msa', 'msa'
WINDOWS = (((4, 8),), ((2, 4),), None, None)


def read_shaping(path: str, checkpoint: dict | None = None) -> dict:
    """Return the :data:`.SHAPING` arguments of the DyViT that a file holds.

    Args:
        path: the file.
        checkpoint: its content, if it has been read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not say them.
    """
    said = read_dyvit(read_checkpoint(path) if checkpoint is None else checkpoint)
    if said is None:
        raise ValueError(f'arch={FROM}{path}: the file does not say which DyViT it holds; give arch and patch_size')
    return said


def check_shaping(shaping: dict[str, Any]) -> dict[str, Any]:
    """Check the arguments of a :class:`.DyViT` that a checkpoint must match, and return them in one form."""
    dims, depths, heads = read_arch(shaping['arch'])
    require_whole(1, **{name: shaping[name] for name in ('patch_size', 'in_channels')})
    require_number('(0, inf)', mlp_ratio=shaping['mlp_ratio'])
    require_flag(qkv_bias=shaping['qkv_bias'])
    if shaping['layer_scale'] is not None:
        require_number('(-inf, inf)', layer_scale=shaping['layer_scale'])
    windows = read_windows(shaping['attention'], shaping['windows'], heads)
    return shaping | dict(
        arch=dict(dims=dims, depths=depths, heads=heads),
        img_size=read_size('img_size', shaping['img_size']),
        attention=tuple(shaping['attention']),
        windows=windows,
        kv_conv=shaping['kv_conv'] if 'dm_msa' in shaping['attention'] else None,
    )


def read_arch(arch: str | dict) -> tuple[tuple[int, ...], ...]:
    """Check an architecture, and return its dims, depths and heads, each of length 4."""
    if isinstance(arch, str):
        names = {key: name for name in ARCHITECTURES for key in (name, name[0])}
        if arch not in names:
            raise ValueError(
                f'unknown arch {arch!r}; choose from {", ".join(ARCHITECTURES)}, their first letters, or give a dict '
                f'with dims, depths and heads{did_you_mean(arch, ARCHITECTURES)}'
            )
        arch = ARCHITECTURES[names[arch]]
    if (
        not isinstance(arch, dict)
        or set(arch) != {'dims', 'depths', 'heads'}
        or any(not isinstance(value, (tuple, list)) or len(value) != 4 for value in arch.values())
    ):
        raise ValueError(f'arch needs dims, depths and heads with four entries each, got {arch}')
    for key, values in arch.items():
        most = DEEPEST if key == 'depths' else math.inf
        require_whole(1, most, **{f"arch['{key}'][{i}]": value for i, value in enumerate(values)})
    if arch['dims'][0] % 4:
        raise ValueError(
            f"arch['dims'][0] must be a multiple of 4 (sines and cosines of y and x), got {arch['dims'][0]}"
        )
    return tuple(tuple(arch[key]) for key in ('dims', 'depths', 'heads'))


def read_indices(name: str, indices: Sequence[int], count: int) -> tuple[int, ...]:
    """Check indices against ``count`` and make negative ones count from the end."""
    if not isinstance(indices, Sequence):
        raise ValueError(f'{name} must be a list of numbers from 0 to {count - 1}, got {indices!r}; one is [{indices}]')
    if any(not isinstance(i, int) or i not in range(-count, count) for i in indices) or (
        name == 'out_indices' and not indices
    ):
        raise ValueError(f'{name} must be numbers from 0 to {count - 1}, got {tuple(indices)}')
    return tuple(sorted({i % count for i in indices}))


def read_windows(
    attention: Sequence[str], windows: Sequence | None, heads: Sequence[int]
) -> tuple[tuple[tuple[int, ...], ...] | None, ...]:
    """Check windows, and return for each stage those of every head, or ``None`` for plain attention."""
    if (
        not isinstance(attention, Sequence)
        or len(attention) != 4
        or any(kind not in ('dm_msa', 'msa') for kind in attention)
    ):
        raise ValueError(f"attention must name 'dm_msa' or 'msa' for each of four stages, got {attention!r}")
    if windows is not None and (not isinstance(windows, Sequence) or len(windows) != 4):
        raise ValueError(f'windows must have one entry for each of four stages (None for msa), got {windows!r}')
    read: list[tuple[tuple[int, ...], ...] | None] = []
    for i, (kind, count, chosen) in enumerate(zip(attention, heads, windows or WINDOWS)):
        if kind == 'msa':
            read.append(None)
            continue
        if chosen is None:
            raise ValueError(f'stage {i + 1} uses dm_msa but has no windows; set windows[{i}]')
        chosen = tuple(chosen) if isinstance(chosen, Sequence) else (chosen,)
        if len(chosen) not in (1, count):
            raise ValueError(
                f'stage {i + 1} has {count} heads but {len(chosen)} windows {chosen}; give one entry for each head or '
                f'one for all of them, which may hold several windows: [{list(chosen)}]'
            )
        if len(chosen) == 1:
            chosen *= count
        read.append(tuple(sorted(read_head_windows(head, UNIT_SIDE >> i) for head in chosen)))
    return tuple(read)
