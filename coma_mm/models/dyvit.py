"""DyViT, a hierarchical vision transformer that is the same function on all units of an image and on some of them.

Shapes: B images, H x W pixels, U = Hu * Wu mask units, K <= U of them encoded, t = 8, 4, 2, 1 tokens along a unit's
side in stages 1-4, N = K * t * t tokens, C channels of the stage.

Only attention looks from one unit to another. Everything else works on tokens or on neighbours inside a unit, so
leaving units out before the first layer gives exactly what hiding them from attention would, at a fraction of the cost.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints.reading import read_checkpoint
from ..checkpoints.settings import FROM, read_dyvit
from ..masking import unit_grid
from ..registry import MODELS
from ..utils.arguments import DEEPEST, LARGEST, did_you_mean, read_size, require_flag, require_number, require_whole
from .attention import DMMSA, MSA
from .compiled import compile_blocks
from .layers import Block, initialize_linear
from .mask_units import (
    UNIT_SIDE,
    attention_blocks,
    map_size,
    sincos_positions,
    split_units,
    tokens_to_map,
    unit_patches,
)

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


class Downsample(nn.Module):
    """LN, then a 2 x 2 convolution with stride 2: four neighbours in memory become one token."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.reduction = nn.Linear(4 * dim, out)

    def forward(self, x: Tensor) -> Tensor:
        """Merge, ``(B, N, C)`` to ``(B, N / 4, out)``."""
        # As precise as x: under autocast the sum of all blocks stays fp32.
        return self.reduction(self.norm(x).unflatten(1, (-1, 4)).flatten(2)).to(x.dtype)


class Stage(nn.Module):
    """Down-sampling (but for the first stage) and the blocks of one resolution."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[Block]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)


@MODELS.register_module()
class DyViT(BaseModule):
    """Hierarchical vision transformer with Dynamic Multi-Window Self-Attention (the paper's backbone).

    ``forward(images)`` returns feature maps for detectors, segmentors and classifiers; ``forward(images, ids_keep)``
    encodes only the units named, for masked pre-training. Weights are drawn in the constructor, so ``init_weights()``
    does nothing but what ``init_cfg`` asks for and never overwrites loaded weights.

    Args:
        arch: ``'pico'``, ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, their first letters, or a dict with
            ``dims``, ``depths`` and ``heads`` (four entries each). With ``'from:FILE'`` all arguments that decide which
            function it is (``SHAPING``) are those that the weights in a file were trained with, as far
            as it says them; the weights are loaded by ``pretrained`` or ``init_cfg``.
        img_size: image size of pre-training in pixels, one number or (height, width). Without ``attn_window`` images of
            any other size see the same range of positions, interpolated.
        patch_size: side of a stage-1 token in pixels: 1 for 32 px images, 2 for 64-96 px, 4 for 224 px and more.
        in_channels: channels of the image.
        out_indices: stages (0-3) whose maps are returned, each with a norm of its own. Stages after the last of them
            are not built.
        attention: per stage ``'dm_msa'`` or ``'msa'``.
        windows: per stage (``None`` where it uses ``'msa'``) what each head sees, the side of a window in tokens or
            several of them; one entry for each head, or one for all. Defaults to 16 and 32 px for every head of stages
            1 and 2: ``([(4, 8)], [(2, 4)], None, None)``.
        kv_conv: ``'depthwise'``, ``'averaged'`` or ``'dense'``, see :class:`.dm_msa.DMMSA`.
        mlp_ratio: hidden width of the MLPs over their input width.
        qkv_bias: whether projections to queries, keys and values have a bias.
        drop_path_rate: rate of stochastic depth of the last block; rises linearly from 0 at the first.
        layer_scale: initial value of a learned scale on residual branches; ``None`` for none.
        attn_window: side in units of the blocks that attention is restricted to; ``None`` for global attention. Such
            a block of 7 is 224 px at patch size 4. Each block sees the positions of pre-training, so what is computed
            in it depends on nothing outside (the cure for "Window Attention is Bugged", ICLR 2024, by tiling).
        global_blocks: with ``attn_window``, numbers of the transformer blocks (counted from 0 through all stages) that
            stay global. Defaults to the last block of each quarter of stage 3, as in ViTDet. Where in the image a
            token lies they learn by a term of their own, which starts at zero.
        frozen_stages: -1 trains everything, 0 freezes the stem, k also the first k stages.
        norm_eval: keep norms in eval mode. LayerNorm computes the same in both; accepted for the toolboxes' sake.
        with_cp: recompute blocks in the backward pass instead of keeping their activations.
        compile: ``torch.compile`` each block, ``True`` or a dict of its options. For images of one size: leave it off
            in detection, where sizes vary.
        pretrained: short for ``init_cfg=dict(type='coma_mm.Pretrained', checkpoint=pretrained)``.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: on an unknown arch or option, heads that match neither dims nor windows, windows that do not divide
            the unit, indices out of range.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        out_indices: Sequence[int] = (3,),
        attention: Sequence[str] = ATTENTION,
        windows: Sequence[int | Sequence[int | Sequence[int]] | None] | None = None,
        kv_conv: str = 'depthwise',
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        layer_scale: float | None = None,
        attn_window: int | None = None,
        global_blocks: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        compile: bool | dict = False,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ):
        if pretrained:
            if init_cfg:
                raise ValueError('give either `pretrained` or `init_cfg`, not both')
            init_cfg = dict(type='coma_mm.Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg)
        shape: dict[str, Any] = dict(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            attention=attention,
            windows=windows,
            kv_conv=kv_conv,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            layer_scale=layer_scale,
        )
        if isinstance(arch, str) and arch.startswith(FROM):
            shape |= read_shape(arch.removeprefix(FROM))
        self.settings = check_shape(shape)  # arguments that a checkpoint must match
        depths = self.settings['arch']['depths']
        require_number('[0, 1)', drop_path_rate=drop_path_rate)
        require_flag(norm_eval=norm_eval, with_cp=with_cp)
        if attn_window is not None:
            require_whole(1, attn_window=attn_window)
        if frozen_stages not in range(-1, 5) or not isinstance(frozen_stages, int):
            raise ValueError(f'frozen_stages must be -1 (none) to 4 (all), got {frozen_stages}')
        self.attn_window = attn_window
        self.frozen_stages = frozen_stages
        self.norm_eval, self.with_cp = norm_eval, with_cp
        self._describe_outputs(read_indices('out_indices', out_indices, 4))
        if global_blocks is None:
            global_blocks = [sum(depths[:2]) + math.ceil(quarter * depths[2] / 4) - 1 for quarter in (1, 2, 3, 4)]
        self.global_blocks = frozenset(read_indices('global_blocks', global_blocks, sum(depths)))
        self._build_layers(drop_path_rate)
        self._freeze_stages()
        compile_blocks(self, compile)

    def _describe_outputs(self, out_indices: tuple[int, ...]) -> None:
        """Set what toolboxes and decoders read of a backbone: its sizes, and those of its outputs."""
        dims, depths, _ = self.settings['arch'].values()
        self.img_size, self.patch_size, self.in_channels = (
            self.settings[name] for name in ('img_size', 'patch_size', 'in_channels')
        )
        self.unit_size = UNIT_SIDE * self.patch_size
        self.embed_dims = dims[0]
        self.out_indices = out_indices
        self.num_stages = out_indices[-1] + 1  # those that no output needs would have parameters without gradient
        self.num_features = dims[self.num_stages - 1]
        self.num_blocks = sum(depths[: self.num_stages])
        self.out_channels = tuple(dims[i] for i in out_indices)
        self.strides = tuple(self.patch_size * 2**i for i in out_indices)
        # What one unit carries in each output: tokens times channels. Decoders of masked pre-training build on it.
        self.unit_channels = tuple(dims[i] * (UNIT_SIDE >> i) ** 2 for i in out_indices)

    def _build_layers(self, drop_path_rate: float) -> None:
        """Build stem, stages, norms of the outputs and the terms of global blocks, and draw their weights."""
        settings = self.settings
        dims, depths, heads = settings['arch'].values()
        rates = iter(drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths)))

        def make_block(i: int) -> Block:
            own, bias = settings['windows'][i], settings['qkv_bias']
            if own is None:
                attention: nn.Module = MSA(dims[i], heads[i], bias)
            else:
                attention = DMMSA(dims[i], own, UNIT_SIDE >> i, settings['kv_conv'], bias)
            return Block(dims[i], attention, settings['mlp_ratio'], next(rates), settings['layer_scale'])

        self.stem = nn.Linear(self.in_channels * self.patch_size**2, dims[0])
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            downsample = Downsample(dims[i - 1], dims[i]) if i else nn.Identity()
            self.stages.append(Stage(downsample, [make_block(i) for _ in range(depths[i])]))
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(dims[i], eps=1e-6))
        stage_of_block = [i for i in range(self.num_stages) for _ in range(depths[i])]
        terms = {
            str(n): nn.Linear(dims[0], dims[i], bias=False) for n, i in enumerate(stage_of_block) if self._is_global(n)
        }
        self.global_positions = nn.ModuleDict(terms)
        self.apply(initialize_linear)
        for term in self.global_positions.values():
            nn.init.zeros_(term.weight)

    def forward(self, x: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode whole images, or the visible units of each.

        Args:
            x: images ``(B, in_channels, H, W)``, B may be 0. Whole images of any size are padded with zeros at the
                bottom and the right to full units; with ``ids_keep`` the sides must be multiples of the unit.
            ids_keep: ``(B, K)`` the units to encode, row-major numbers, in any order.

        Returns:
            One tensor for each of ``out_indices``: maps ``(B, C, ceil(H / stride), ceil(W / stride))``, or with
            ``ids_keep`` tokens ``(B, K * t * t, C)``, unit after unit in the order given, Z-order inside.

        Raises:
            ValueError: if ``ids_keep`` is given and the sides are not multiples of the unit, or if the images have
                other channels.
        """
        return self._encode(x, ids_keep, self.out_indices)

    def _encode(self, x: Tensor, ids_keep: Tensor | None, out_indices: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Do what :meth:`forward` says, for any stages; those after the last of them are not computed."""
        H, W = map_size(x)
        check_channels(x, self.in_channels)
        if ids_keep is None:
            x = F.pad(x, (0, -W % self.unit_size, 0, -H % self.unit_size))
        grid = unit_grid(map_size(x), self.unit_size)
        idx, blocks, inverse = ids_keep, None, None
        if idx is None and self.attn_window and max(grid) > self.attn_window:
            idx, inverse, blocks = attention_blocks(grid, self.attn_window, x.device)

        x = self.stem(unit_patches(split_units(x, self.unit_size, idx)))
        x = x + self._positions((H, W), grid, idx).flatten(-3, -2)

        outs, number = [], 0
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for i, stage in enumerate(self.stages[: max(out_indices) + 1]):
            side = UNIT_SIDE >> i
            x = stage.downsample(x)
            token_blocks = blocks and tuple((count, units * side**2) for count, units in blocks)
            places = None
            for block in stage.blocks:
                is_global = self._is_global(number)
                if is_global:
                    places = self._places(grid, side, idx) if places is None else places
                    x = x + self.global_positions[str(number)](places).to(places.dtype)
                local = None if is_global else token_blocks
                x = checkpoint(block, x, local, use_reentrant=False) if recompute else block(x, local)
                number += 1
            if i in out_indices:
                out = getattr(self, f'norm{i}')(x)
                if ids_keep is None:
                    if inverse is not None:
                        out = out.unflatten(1, (-1, side**2))[:, inverse].flatten(1, 2)
                    stride = self.patch_size << i
                    # Rounded up by integers, for graphs of any size: torch.export stores no math.ceil, and ONNX
                    # divides negative numbers otherwise than Python.
                    out = tokens_to_map(out, grid, ((H + stride - 1) // stride, (W + stride - 1) // stride))
                outs.append(out)
        return tuple(outs)

    def _positions(self, size: tuple[int, int], grid: tuple[int, int], idx: Tensor | None) -> Tensor:
        """Return stage 1's positions of units ``idx``, of images of ``size`` px: ``([B,] K, 64, C)``.

        Interpolated to the image, whatever completes its last units; with ``attn_window`` those of a block of that
        many units, tiled.
        """
        window = self.attn_window
        shown = size if window is None else (window * self.unit_size, window * self.unit_size)
        scale = self.img_size[0] / shown[0], self.img_size[1] / shown[1]
        weight = self.stem.weight
        return sincos_positions(grid, UNIT_SIDE, self.embed_dims, scale, window, idx, weight.device, weight.dtype)

    def _places(self, grid: tuple[int, int], side: int, idx: Tensor | None) -> Tensor:
        """Return where in the image a stage's tokens lie, for global blocks: ``([B,] K * side * side, dims[0])``."""
        distance = UNIT_SIDE / side  # in tokens of stage 1, which the places of all stages are counted in
        weight = self.stem.weight
        places = sincos_positions(
            grid, side, self.embed_dims, (distance, distance), idx=idx, device=weight.device, dtype=weight.dtype
        )
        return places.flatten(-3, -2)

    def _is_global(self, number: int) -> bool:
        """Say whether block ``number`` sees the whole image where others see theirs in blocks."""
        return bool(self.attn_window) and number in self.global_blocks

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem, *self.stages[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        before = sum(len(stage.blocks) for stage in self.stages[: self.frozen_stages])
        frozen += [term for number, term in self.global_positions.items() if int(number) < before]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'DyViT':
        """Set the mode; frozen stages, and norms under ``norm_eval``, stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eval()
        return self

    def is_optional_weight(self, name: str) -> bool:
        """Say whether a weight depends on ``out_indices`` and ``attn_window`` alone.

        Those are output norms, stages after the last output, and the positions of global blocks. A checkpoint may lack
        the first and the last, or have more of all than this backbone.
        """
        first, *rest = name.split('.')
        if first == 'stages':
            return int(rest[0]) >= len(self.stages)
        return first in ('norm0', 'norm1', 'norm2', 'norm3', 'global_positions')

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Place a parameter for layer-wise learning-rate decay.

        Args:
            param_name: full name of the parameter.
            prefix: what stands before the backbone's own names, e.g. ``'backbone.'``.

        Returns:
            ``(depth, number of depths)``: 0 for the stem, 1 to L for the L blocks in order (a down-sampling and a
            global block's positions go with the block after them), L + 1 for the output norms and everything outside
            the backbone.
        """
        last = self.num_blocks + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        first, *rest = param_name[len(prefix) :].split('.')
        if first == 'stem':
            return 0, last + 1
        if first == 'global_positions':
            return int(rest[0]) + 1, last + 1
        if first != 'stages':
            return last, last + 1
        stage, part, number = int(rest[0]), rest[1], rest[2]
        before = sum(len(earlier.blocks) for earlier in self.stages[:stage])
        return before + 1 + (int(number) if part == 'blocks' else 0), last + 1


def check_channels(images: Tensor, expected: int) -> None:
    """Raise unless images ``(B, C, H, W)`` have as many channels as the encoder was built for.

    Raises:
        ValueError: With both numbers.
    """
    if images.shape[1] != expected:
        raise ValueError(
            f'the images have {images.shape[1]} channels, but the backbone was built with in_channels={expected}: set '
            'model.backbone.in_channels, or the channels that the pipeline loads (LoadImage), to what the other is'
        )


def read_shape(path: str) -> dict:
    """Return the arguments of the DyViT that a file holds, as ``SHAPING`` names them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not say them.
    """
    said = read_dyvit(read_checkpoint(path))
    if said is None:
        raise ValueError(f'arch={FROM}{path}: the file does not say which DyViT it holds; give arch and patch_size')
    return said


def check_shape(shape: dict[str, Any]) -> dict[str, Any]:
    """Check what decides, beside weights, which function a :class:`DyViT` is; return it in one form."""
    dims, depths, heads = read_arch(shape['arch'])
    require_whole(1, **{name: shape[name] for name in ('patch_size', 'in_channels')})
    require_number('(0, inf)', mlp_ratio=shape['mlp_ratio'])
    require_flag(qkv_bias=shape['qkv_bias'])
    if shape['layer_scale'] is not None:
        require_number('(-inf, inf)', layer_scale=shape['layer_scale'])
    windows = read_windows(shape['attention'], shape['windows'], heads)
    return shape | dict(
        arch=dict(dims=dims, depths=depths, heads=heads),
        img_size=read_size('img_size', shape['img_size']),
        attention=tuple(shape['attention']),
        windows=windows,
        kv_conv=shape['kv_conv'] if 'dm_msa' in shape['attention'] else None,
    )


def read_arch(arch: str | dict) -> tuple[tuple[int, ...], ...]:
    """Return dims, depths and heads, each of length 4."""
    if isinstance(arch, str):
        names = {**{name[0]: name for name in ARCHITECTURES}, **{name: name for name in ARCHITECTURES}}
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
        most = DEEPEST if key == 'depths' else LARGEST
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
    """Check the options of all stages and return for each, ``None`` for plain attention, the windows of every head."""
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
        read.append(tuple(sorted(tuple(sorted(side)) if isinstance(side, Sequence) else (side,) for side in chosen)))
    return tuple(read)
