"""Weights of plain ViTs: timm's and MAE's names become those of mmpretrain's ViT and of our decoder.

Only names and the order of values change, so the network computes what it did.
"""

import math
import re

import torch
from torch import Tensor

# Name after a prefix, and its name after "backbone." or "decoder.".
ENCODER = {
    r'(cls_token|pos_embed)': r'\1',
    r'patch_embed\.proj\.(\w+)': r'patch_embed.projection.\1',
    r'norm_pre\.(\w+)': r'pre_norm.\1',
    r'norm\.(\w+)': r'ln1.\1',
    r'blocks\.(\d+)\.norm([12])\.(\w+)': r'layers.\1.ln\2.\3',
    r'blocks\.(\d+)\.attn\.(qkv|proj)\.(\w+)': r'layers.\1.attn.\2.\3',
    r'blocks\.(\d+)\.mlp\.fc1\.(\w+)': r'layers.\1.ffn.layers.0.0.\2',
    r'blocks\.(\d+)\.mlp\.fc2\.(\w+)': r'layers.\1.ffn.layers.1.\2',
    r'blocks\.(\d+)\.ls1\.gamma': r'layers.\1.attn.gamma1.weight',
    r'blocks\.(\d+)\.ls2\.gamma': r'layers.\1.ffn.gamma2.weight',
}
DECODER = {  # MAE's, and mmpretrain's of MAE below "neck."
    r'(mask_token)': r'\1',
    r'decoder_embed\.(\w+)': r'embeddings.0.\1',
    r'decoder_blocks\.(\d+)\.(?:norm|ln)([12])\.(\w+)': r'blocks.\1.norm\2.\3',
    r'decoder_blocks\.(\d+)\.attn\.(qkv|proj)\.(\w+)': r'blocks.\1.attn.\2.\3',
    r'decoder_blocks\.(\d+)\.(?:mlp\.fc1|ffn\.layers\.0\.0)\.(\w+)': r'blocks.\1.mlp.0.\2',
    r'decoder_blocks\.(\d+)\.(?:mlp\.fc2|ffn\.layers\.1)\.(\w+)': r'blocks.\1.mlp.2.\2',
    r'(?:decoder_norm|ln1)\.(\w+)': r'norm.\1',
    r'decoder_pred\.(\w+)': r'prediction.\1',
}
# Heads by width, which weights do not tell: those of ViT, DeiT, MAE, EVA and DINOv2.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24}


def rename_vit(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a ViT as ``backbone.*`` of mmpretrain and ``decoder.*`` of ours; all others as they are."""
    prefix = find_parts(weights, 'blocks.0.attn.qkv.weight', 'patch_embed.proj.weight', 'pos_embed')
    norms = re.compile(rf'{re.escape(prefix or "")}blocks\.\d+\.norm1\.weight')
    if prefix is not None and len({value.shape for name, value in weights.items() if norms.fullmatch(name)}) == 1:
        weights = _rename(weights, prefix, ENCODER, 'backbone.')  # of one width: Hiera has these names, too
    of_decoder = find_parts(weights, 'decoder_embed.weight', 'decoder_pos_embed', 'decoder_pred.weight')
    kernel = weights.get('backbone.patch_embed.projection.weight')
    if of_decoder is None or kernel is None:
        return weights
    positions = weights[f'{of_decoder}decoder_pos_embed']
    named = _rename(weights, of_decoder, DECODER, 'decoder.')
    return {name: _reorder(name, value, positions, kernel.shape[-1]) for name, value in named.items()}


def read_vit(weights: dict[str, Tensor], heads: int | None = None) -> tuple[str, dict] | None:
    """Return what stands before the names of mmpretrain's ViT, and the arguments of its constructor by its shapes.

    Args:
        weights: As :func:`rename_vit` returns them.
        heads: Number of heads, if the file says it; by the width if ``None``.

    Returns:
        ``None`` if there is no such ViT.
    """
    prefix = find_parts(weights, 'layers.0.attn.qkv.weight', 'patch_embed.projection.weight', 'pos_embed')
    if prefix is None or f'{prefix}layers.0.ffn.layers.0.0.weight' not in weights:
        return None
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if own['patch_embed.projection.weight'].ndim != 4 or own['pos_embed'].ndim != 3:
        raise ValueError('a ViT whose patches or positions have another number of dimensions')
    width, channels, patch_size, _ = own['patch_embed.projection.weight'].shape
    depth = len({name.split('.')[1] for name in own if name.startswith('layers.')})
    heads = heads or (8 if (width, depth) == (768, 8) else HEADS.get(width))  # mmpretrain's own small ViT
    side = math.isqrt(own['pos_embed'].shape[1])  # a class token is one beside a square
    if own['pos_embed'].shape[1] != side**2 + ('cls_token' in own):
        raise ValueError(f'a ViT whose {own["pos_embed"].shape[1]} positions are no square and at most a class token')
    if heads is None:
        raise ValueError(f'a ViT of width {width}, and does not say how many heads it has')
    hidden = own['layers.0.ffn.layers.0.0.weight'].shape[0]
    arch = dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=hidden)
    arguments = dict(arch=arch, img_size=side * patch_size, patch_size=patch_size, in_channels=channels)
    others = dict(
        with_cls_token='cls_token' in own,
        qkv_bias='layers.0.attn.qkv.bias' in own,
        pre_norm='pre_norm.weight' in own,
        layer_scale_init_value=1e-5 * ('layers.0.attn.gamma1.weight' in own),
    )
    usual = dict(with_cls_token=True, qkv_bias=True, pre_norm=False, layer_scale_init_value=0.0)
    return prefix, arguments | {name: value for name, value in others.items() if value != usual[name]}


def find_parts(weights: dict[str, Tensor], first: str, *others: str) -> str | None:
    """Return the shortest prefix after which weights have all of these names."""
    prefixes = sorted((name.removesuffix(first) for name in weights if name.endswith(first)), key=len)
    fitting = (p for p in prefixes if (not p or p.endswith('.')) and all(p + other in weights for other in others))
    return next(fitting, None)


def _rename(weights: dict[str, Tensor], prefix: str, names: dict[str, str], room: str) -> dict[str, Tensor]:
    def rename(name: str) -> str:
        for pattern, own in names.items():
            if found := re.fullmatch(re.escape(prefix) + pattern, name):
                return room + found.expand(own)
        return name

    return {rename(name): value for name, value in weights.items()}


def _reorder(name: str, value: Tensor, positions: Tensor, patch_size: int) -> Tensor:
    """Put values of the decoder in our order: those of a patch by channel, y, x; of its positions y comes first."""
    if not name.startswith('decoder.'):
        return value
    if name.startswith('decoder.prediction.'):
        value = value.unflatten(0, (patch_size, patch_size, -1)).movedim(2, 0).flatten(0, 2)
    half = positions.shape[-1] // 2
    goes_in = re.search(r'(qkv|mlp\.0|prediction)\.(weight|bias)$', name)  # other layers' width on the other side
    x_comes_first = not torch.equal(positions[0, 1, :half], positions[0, 2, :half])  # of two patches in a row
    if not x_comes_first or (goes_in and goes_in[2] == 'bias'):
        return value
    return value.roll(half, 1 if goes_in else 0 if value.ndim == 2 else -1)
