"""DyViT written a second time, the slow and obvious way: raster maps, Conv2d, a hand-written softmax with hidden keys.

It shares the weights with the model under test and none of its geometry.
"""

import torch
import torch.nn.functional as F

from coma_mm.models.attention import DMMSA, AveragedWindowConv, DepthwiseWindowConv


def z_order(side):
    """Return [(y, x), ...] of a side x side block in Morton order, by recursion."""
    if side == 1:
        return [(0, 0)]
    half = side // 2
    return [(y + dy, x + dx) for dy in (0, half) for dx in (0, half) for y, x in z_order(half)]


def to_kernel(weight, window):
    """Turn a Linear weight (out, w * w * C) over Z-ordered tokens into a Conv2d kernel (out, C, w, w)."""
    weight = weight.view(len(weight), window**2, -1)
    kernel = weight.new_zeros(len(weight), weight.shape[-1], window, window)
    for i, (y, x) in enumerate(z_order(window)):
        kernel[:, :, y, x] = weight[:, i]
    return kernel


def sincos(height, width, dim, base_height, base_width):
    """Fixed positions (H, W, dim) from the textbook formula, one number at a time."""
    table = torch.zeros(height, width, dim, dtype=torch.float64)
    quarter = dim // 4
    for i in range(quarter):
        frequency = 10000 ** (-i / quarter)
        y = ((torch.arange(height, dtype=torch.float64) + 0.5) * base_height / height - 0.5) * frequency
        x = ((torch.arange(width, dtype=torch.float64) + 0.5) * base_width / width - 0.5) * frequency
        table[..., i], table[..., quarter + i] = y.sin()[:, None], y.cos()[:, None]
        table[..., 2 * quarter + i], table[..., 3 * quarter + i] = x.sin(), x.cos()
    return table


def attention(attn, x, allowed):
    """Attend over a raster map (B, H, W, C); ``allowed(qy, qx, ky, kx, query_stride)`` says which keys count."""
    B, H, W, C = x.shape
    if isinstance(attn, DMMSA):
        q = attn.q(x)
        groups = [(list(zip(windows, convs)), heads) for (windows, heads), convs in zip(attn.groups, attn.kv)]
    else:
        q, kv = attn.qkv(x).split([C, 2 * C], -1)
        if attn.kv_window > 1:
            kv = F.avg_pool2d(kv.permute(0, 3, 1, 2), attn.kv_window).permute(0, 2, 3, 1)
        groups = [([(attn.kv_window, kv)], attn.num_heads)]
    d, outs, first = C // attn.num_heads, [], 0
    for scales, heads in groups:
        keys, values, masks = [], [], []
        for window, conv in scales:
            if torch.is_tensor(conv):
                kv = conv
            elif isinstance(conv, DepthwiseWindowConv):
                kernel = to_kernel(conv.weight.t().reshape(C, -1), window) / window
                pooled = F.conv2d(x.permute(0, 3, 1, 2), kernel.view(C, 1, window, window), stride=window, groups=C)
                kv = conv.pointwise(pooled.permute(0, 2, 3, 1))
            else:
                kernel = to_kernel(conv.weight, window)
                if isinstance(conv, AveragedWindowConv):
                    kernel = kernel / window**2
                kv = F.conv2d(x.permute(0, 3, 1, 2), kernel, conv.bias, stride=window)
                kv = kv.permute(0, 2, 3, 1)
            k, v = kv.flatten(1, 2).split(heads * d, -1)
            keys.append(k), values.append(v), masks.append(allowed(H, W, window))
        mask = torch.cat(masks, -1)  # the keys of all windows of a head stand in one softmax
        for head in range(heads):
            span = slice(head * d, (head + 1) * d)
            query = q[..., (first + head) * d : (first + head + 1) * d].flatten(1, 2)
            scores = torch.cat([query @ k[..., span].transpose(1, 2) for k in keys], -1) / d**0.5
            weights = scores.masked_fill(~mask, float('-inf')).softmax(-1)
            outs.append(weights @ torch.cat([v[..., span] for v in values], 1))
        first += heads
    return attn.proj(torch.cat(outs, -1).view(B, H, W, C))


def forward(model, image, visible, attention_block=None):
    """Run a DyViT on raster maps.

    Args:
        model: the DyViT, float64, eval mode.
        image: (B, 3, H, W), sides multiples of the unit.
        visible: bool (B, Hu, Wu), the units whose keys count.
        attention_block: int (Hu, Wu), which attention block a unit belongs to, for all but the model's global blocks.

    Returns:
        Maps (B, H', W', C) of the four stages after their output norm. Values at hidden units mean nothing.
    """
    p, unit = model.patch_size, model.unit_size
    Hu, Wu = image.shape[2] // unit, image.shape[3] // unit
    kernel = model.patch_embed.weight.view(-1, 3, p, p)
    x = F.conv2d(image, kernel, model.patch_embed.bias, stride=p).permute(0, 2, 3, 1)
    height, width = image.shape[2:] if model.attn_window is None else [model.attn_window * unit] * 2
    table = sincos(height // p, width // p, x.shape[3], model.img_size[0] / p, model.img_size[1] / p)
    x = x + table.repeat(x.shape[1] // len(table) + 1, x.shape[2] // table.shape[1] + 1, 1)[: x.shape[1], : x.shape[2]]

    def allowed_for(number):
        def allowed(H, W, window):
            def per_token(units, stride):
                return (
                    units.repeat_interleave(H // Hu // stride, -2).repeat_interleave(W // Wu // stride, -1).flatten(-2)
                )

            mask = per_token(visible, window)[:, None, :]
            if attention_block is not None and number not in model.global_blocks:
                mask = mask & (per_token(attention_block, 1)[:, None] == per_token(attention_block, window)[None])
            return mask

        return allowed

    outs, number = [], 0
    for i, stage in enumerate(model.stages):
        if i:
            down = stage.downsample
            x = down.norm(x).permute(0, 3, 1, 2)
            x = F.conv2d(x, to_kernel(down.reduction.weight, 2), down.reduction.bias, stride=2).permute(0, 2, 3, 1)
        for block in stage.blocks:
            if model.attn_window and number in model.global_blocks:
                places = sincos(x.shape[1], x.shape[2], model.embed_dims, unit // p * Hu, unit // p * Wu)
                x = x + places @ model.global_positions[str(number)].weight.T
            x = x + block.ls1(attention(block.attn, block.norm1(x), allowed_for(number)))
            x = x + block.ls2(block.mlp(block.norm2(x)))
            number += 1
        outs.append(getattr(model, f'norm{i}')(x))
    return outs


def units_of(feature_map, grid):
    """Cut a map (B, H, W, C) into (B, U, t * t, C) with tokens in Z-order, unit by unit."""
    B, H, W, C = feature_map.shape
    side = H // grid[0]
    units = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            units.append(torch.stack([feature_map[:, row * side + y, column * side + x] for y, x in z_order(side)], 1))
    return torch.stack(units, 1)
