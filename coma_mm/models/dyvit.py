"""DyViT, a hierarchical vision transformer that is the same function on all units of an image and on some of them.

Shapes: B images, H x W pixels, U = Hu * Wu mask units, K <= U of them encoded, t = 8, 4, 2, 1 tokens along a unit's
side in stages 1-4, N = K * t * t tokens, C channels of the image or of a stage.

Only attention connects units. Everything else works on tokens or on neighbours inside a unit. So units are left out
before the first layer. The result is exactly that of hiding them from attention, at a fraction of the cost.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints.older_names import rename_loaded
from ..checkpoints.settings import FROM
from ..masking import unit_grid
from ..registry import MODELS
from ..utils.arguments import require_flag, require_number, require_whole
from .architectures import ATTENTION, check_shaping, read_indices, read_shaping
from .attention import DMMSA, MSA, AttnBlocks
from .compiled import compile_blocks
from .layers import Block, initialize_linear
from .mask_units import UNIT_SIDE, map_size, order_by_blocks, sincos_positions, split_units, tokens_to_map, unit_patches


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
    encodes only the units named, for masked pre-training. Weights are drawn in the constructor. So ``init_weights()``
    does only what ``init_cfg`` asks for, and never overwrites loaded weights.

    Args:
        arch: ``'pico'``, ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, their first letters, or a dict with
            ``dims``, ``depths`` and ``heads`` (four entries each). ``'from:FILE'`` takes the arguments that a
            checkpoint must match (``SHAPING``) from a file, as far as it says them. Its weights are loaded by
            ``pretrained`` or ``init_cfg``.
        img_size: image size of pre-training in pixels, one number or (height, width). Without ``attn_window`` images of
            any other size see the same range of positions, interpolated.
        patch_size: side of a stage-1 token in pixels: 1 for 32 px images, 2 for 64-96 px, 4 for 224 px and more.
        in_channels: channels of the image.
        out_indices: stages (0-3) whose maps are returned, each with a norm of its own. Stages after the last of them
            are not built.
        attention: per stage ``'dm_msa'`` or ``'msa'``.
        windows: per stage the windows that each head sees, one or several, by their sides in tokens. One entry for
            each head, or one for all; ``None`` for a stage of ``'msa'``. Defaults to 16 and 32 px for every head of
            stages 1 and 2: ``([(4, 8)], [(2, 4)], None, None)``.
        kv_conv: ``'depthwise'``, ``'averaged'`` or ``'dense'``, see :class:`.attention.DMMSA`.
        mlp_ratio: hidden width of the MLPs over their input width.
        qkv_bias: whether projections to queries, keys and values have a bias.
        drop_path_rate: rate of stochastic depth of the last block; rises linearly from 0 at the first.
        layer_scale: initial value of a learned scale on residual branches; ``None`` for none.
        attn_window: side in units of the blocks that attention is restricted to; ``None`` for global attention. Such
            a block of 7 is 224 px at patch size 4. Each block sees the positions of pre-training (tiled, the cure of
            "Window Attention is Bugged", ICLR 2024). So its features depend on nothing outside.
        global_blocks: with ``attn_window``, numbers of the transformer blocks (counted from 0 through all stages) that
            stay global. Defaults to the last block of each half of stage 3. They learn where in the image a token lies
            by a term of their own, which starts at zero.
        global_window: side in tokens of the windows that global blocks of plain attention average to one key each. At
            most a unit. 1 compares all tokens with all.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, k also the first k stages.
        norm_eval: accepted for the toolboxes' sake. It changes nothing: LayerNorm computes the same in both modes.
        with_cp: recompute blocks in the backward pass instead of keeping their activations.
        compile: ``torch.compile`` each block, ``True`` or a dict of its options. For images of one size: leave it off
            in detection, where sizes vary.
        pretrained: short for ``init_cfg=dict(type='coma_mm.Pretrained', checkpoint=pretrained)``.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: on an unknown arch or option, or an index out of range. Also on heads that match neither dims nor
            windows, and on windows that do not divide the unit.
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
        global_window: int = 2,
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
        shaping: dict[str, Any] = dict(
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
            shaping |= read_shaping(arch.removeprefix(FROM))
        self.settings = check_shaping(shaping)  # arguments that a checkpoint must match
        depths = self.settings['arch']['depths']
        require_number('[0, 1)', drop_path_rate=drop_path_rate)
        require_flag(norm_eval=norm_eval, with_cp=with_cp)
        _check_options(attn_window, frozen_stages, global_window)
        self.attn_window = attn_window
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self._describe_outputs(read_indices('out_indices', out_indices, 4))
        if global_blocks is None:
            global_blocks = [sum(depths[:2]) + math.ceil(depths[2] / 2) - 1, sum(depths[:3]) - 1]
        self.global_blocks = frozenset(read_indices('global_blocks', global_blocks, sum(depths)))
        self._build_layers(drop_path_rate, global_window)
        self._register_load_state_dict_pre_hook(rename_loaded)
        self._freeze_stages()
        compile_blocks(self, compile)

    def _describe_outputs(self, out_indices: tuple[int, ...]) -> None:
        """Set the sizes of the backbone and of its outputs, which toolboxes and decoders read."""
        dims, depths, _ = self.settings['arch'].values()
        self.img_size, self.patch_size, self.in_channels = (
            self.settings[name] for name in ('img_size', 'patch_size', 'in_channels')
        )
        self.unit_size = UNIT_SIDE * self.patch_size
        self.embed_dims = dims[0]
        self.out_indices = out_indices
        self.num_stages = out_indices[-1] + 1  # no output needs the others, whose parameters would have no gradient
        self.num_features = dims[self.num_stages - 1]
        self.num_blocks = sum(depths[: self.num_stages])
        self.out_channels = tuple(dims[i] for i in out_indices)
        self.strides = tuple(self.patch_size * 2**i for i in out_indices)
        # Values of one unit in each output: tokens times channels. Decoders of masked pre-training build on them.
        self.unit_channels = tuple(dims[i] * (UNIT_SIDE >> i) ** 2 for i in out_indices)

    def _build_layers(self, drop_path_rate: float, global_window: int) -> None:
        """Build patch embedding, stages, output norms and the terms of global blocks, and draw their weights."""
        settings = self.settings
        dims, depths, heads = settings['arch'].values()

        def make_block(i: int, number: int) -> Block:
            own, bias = settings['windows'][i], settings['qkv_bias']
            if own is None:
                kv_window = min(global_window, UNIT_SIDE >> i) if self._is_global(number) else 1
                attention: nn.Module = MSA(dims[i], heads[i], bias, kv_window)
            else:
                attention = DMMSA(dims[i], own, UNIT_SIDE >> i, settings['kv_conv'], bias)
            drop_path = drop_path_rate * number / max(sum(depths) - 1, 1)
            return Block(dims[i], attention, settings['mlp_ratio'], drop_path, settings['layer_scale'])

        self.patch_embed = nn.Linear(self.in_channels * self.patch_size**2, dims[0])
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            downsample = Downsample(dims[i - 1], dims[i]) if i else nn.Identity()
            self.stages.append(Stage(downsample, [make_block(i, sum(depths[:i]) + n) for n in range(depths[i])]))
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
            ValueError: if the images have other channels, or with ``ids_keep`` sides that are no multiples of the unit.
        """
        return self._encode(x, ids_keep, self.out_indices)

    def _encode(self, x: Tensor, ids_keep: Tensor | None, out_indices: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Encode, and return any stages; those after the last of them are not computed."""
        H, W = map_size(x)
        check_channels(x, self.in_channels)
        if ids_keep is None:
            x = F.pad(x, (0, -W % self.unit_size, 0, -H % self.unit_size))
        grid = unit_grid(map_size(x), self.unit_size)
        idx, attn_blocks, inverse = ids_keep, None, None
        if idx is None and self.attn_window and max(grid) > self.attn_window:
            idx, inverse, attn_blocks = order_by_blocks(grid, self.attn_window, x.device)

        x = self.patch_embed(unit_patches(split_units(x, self.unit_size, idx)))
        x = x + self._positions((H, W), grid, idx).flatten(-3, -2)
        outs = []
        for i in range(max(out_indices) + 1):
            x = self._forward_stage(i, x, grid, idx, attn_blocks)
            if i in out_indices:
                out = getattr(self, f'norm{i}')(x)
                outs.append(self._to_map(i, out, (H, W), grid, inverse) if ids_keep is None else out)
        return tuple(outs)

    def _forward_stage(
        self, i: int, x: Tensor, grid: tuple[int, int], idx: Tensor | None, attn_blocks: AttnBlocks | None
    ) -> Tensor:
        """Down-sample, then run the blocks of stage ``i``: each in its attention blocks, but for the global ones."""
        side = UNIT_SIDE >> i
        x = self.stages[i].downsample(x)
        token_blocks = attn_blocks and tuple((count, units * side**2) for count, units in attn_blocks)
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        positions = None
        for number, block in enumerate(self.stages[i].blocks, sum(self.settings['arch']['depths'][:i])):
            is_global = self._is_global(number)
            if is_global:
                positions = self._image_positions(grid, side, idx) if positions is None else positions
                x = x + self.global_positions[str(number)](positions).to(positions.dtype)
            within = None if is_global else token_blocks
            x = checkpoint(block, x, within, use_reentrant=False) if recompute else block(x, within)
        return x

    def _to_map(
        self, i: int, tokens: Tensor, size: tuple[int, int], grid: tuple[int, int], inverse: Tensor | None
    ) -> Tensor:
        """Return the tokens of stage ``i`` as a map of an image of ``size`` px; ``inverse`` undoes the units' order."""
        if inverse is not None:
            tokens = tokens.unflatten(1, (-1, (UNIT_SIDE >> i) ** 2))[:, inverse].flatten(1, 2)
        stride = self.patch_size << i
        # Rounded up by integers, for graphs of any size: torch.export stores no math.ceil, and ONNX divides negative
        # numbers otherwise than Python.
        return tokens_to_map(tokens, grid, ((size[0] + stride - 1) // stride, (size[1] + stride - 1) // stride))

    def _positions(self, size: tuple[int, int], grid: tuple[int, int], idx: Tensor | None) -> Tensor:
        """Return stage 1's positions of units ``idx``, of images of ``size`` px: ``([B,] K, 64, C)``.

        They are interpolated to the image, whose last units may be incomplete. With ``attn_window`` they are those of
        a block of that many units, tiled.
        """
        window = self.attn_window
        shown = size if window is None else (window * self.unit_size, window * self.unit_size)
        scale = self.img_size[0] / shown[0], self.img_size[1] / shown[1]
        weight = self.patch_embed.weight
        return sincos_positions(grid, UNIT_SIDE, self.embed_dims, scale, window, idx, weight.device, weight.dtype)

    def _image_positions(self, grid: tuple[int, int], side: int, idx: Tensor | None) -> Tensor:
        """Return a stage's positions in the whole image, for global blocks: ``([B,] K * side * side, dims[0])``."""
        distance = UNIT_SIDE / side  # in tokens of stage 1, as the positions of all stages
        weight = self.patch_embed.weight
        positions = sincos_positions(
            grid, side, self.embed_dims, (distance, distance), idx=idx, device=weight.device, dtype=weight.dtype
        )
        return positions.flatten(-3, -2)

    def _is_global(self, number: int) -> bool:
        """Say whether block ``number`` attends to the whole image where others attend inside blocks."""
        return bool(self.attn_window) and number in self.global_blocks

    def _freeze_stages(self) -> None:
        """Freeze the patch embedding and the first ``frozen_stages`` stages with their norms and positions."""
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, *self.stages[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        before = sum(len(stage.blocks) for stage in self.stages[: self.frozen_stages])
        frozen += [term for number, term in self.global_positions.items() if int(number) < before]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'DyViT':
        """Set the mode; frozen stages stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def resize_patches(self, weights: dict[str, Tensor], old: int) -> dict[str, Tensor]:
        """Fit weights that were trained on patches of another size.

        An image that is enlarged or averaged along with the patches gives the same tokens as before.

        Args:
            weights: of a DyViT, by its own names.
            old: side of their patches in pixels.
        """
        kernel, C, new = weights.get('patch_embed.weight', self.patch_embed.weight), self.in_channels, self.patch_size
        if old == new or kernel.shape[1] != C * old**2:  # loading says what does not fit
            return weights
        resized = F.adaptive_avg_pool2d(kernel.float().unflatten(1, (C, old, old)), new) * (old / new) ** 2
        return weights | {'patch_embed.weight': resized.flatten(1)}

    def is_optional_weight(self, name: str) -> bool:
        """Say whether a weight depends on ``out_indices`` and ``attn_window`` alone.

        Those are output norms, stages after the last output, and the positions of global blocks. A checkpoint may lack
        the first and the last, or have more of all than this backbone.
        """
        later = [f'stages.{i}.' for i in range(len(self.stages), 4)]
        norms = [f'norm{i}.' for i in range(4)]
        return name.startswith((*later, *norms, 'global_positions.'))

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Place a parameter for layer-wise learning-rate decay.

        Args:
            param_name: full name of the parameter.
            prefix: what stands before the backbone's own names, e.g. ``'backbone.'``.

        Returns:
            ``(depth, number of depths)``. The depth is 0 for the patch embedding, and 1 to L for the L blocks in order.
            A down-sampling and a global block's positions go with the block after them. Output norms, and everything
            outside the backbone, have L + 1.
        """
        last = self.num_blocks + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        first, *rest = param_name[len(prefix) :].split('.')
        if first == 'patch_embed':
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


def _check_options(attn_window: int | None, frozen_stages: int, global_window: int) -> None:
    """Refuse options of :class:`DyViT` that are out of range."""
    if attn_window is not None:
        require_whole(1, attn_window=attn_window)
    if frozen_stages not in range(-1, 5) or not isinstance(frozen_stages, int):
        raise ValueError(f'frozen_stages must be -1 (none) to 4 (all), got {frozen_stages}')
    if global_window not in (1, 2, 4, 8) or not isinstance(global_window, int):
        raise ValueError(f'global_window must be 1, 2, 4 or 8 tokens, got {global_window!r}')
