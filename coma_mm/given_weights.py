"""Weights that ``--init`` and ``--teacher`` name: whose they are, and whether their decoder goes on as well."""

import math
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints.bounded_building import bounded_building
from .checkpoints.finding import find_weights
from .checkpoints.reading import get_state_dict, read_checkpoint
from .checkpoints.settings import read_config_text, read_dyvit, read_meta, read_settings
from .checkpoints.vit_names import find_parts, read_vit, rename_vit
from .export.source import find_normalisation
from .models.architectures import ARCHITECTURES
from .models.dyvit import DyViT
from .recipe import SIZE, VARIANTS, Encoder
from .settings import VITS, PretrainSettings
from .utils.paths import short_path
from .utils.text import one_line


def start_from(settings: PretrainSettings) -> tuple[PretrainSettings, Encoder]:
    """Return the encoder of the weights ``init``, and settings that go with it."""
    source, called, checkpoint, weights, prefix, encoder = read_source(str(settings.init), settings.channels, '--init')
    if settings.arch is not None:
        raise ValueError(f'{called} has a {encoder.name}, so leave --arch {settings.arch} out')
    channels = encoder.backbone.get('in_channels', 3)
    if settings.channels not in (None, channels):
        raise ValueError(
            f'{called} takes images of {channels} channels: give --channels {channels}, in place of {settings.channels}'
        )
    own = encoder.backbone['img_size']
    known = own if isinstance(own, int) else own[0] if len(set(own)) == 1 else None
    size = settings.size or known
    if size is None:
        raise ValueError(f'{called} takes images of {own[0]} x {own[1]} px, and crops are squares: give --size')
    encoder.check_size(size)
    if encoder.backbone['type'] == 'coma_mm.MaskedViT':
        encoder.backbone['img_size'] = size
    init = dict(type='coma_mm.Pretrained', checkpoint=source)
    encoder.backbone['init_cfg'] = init | dict(prefix=prefix)
    decoder = read_decoder(checkpoint, weights, encoder)
    if decoder:
        encoder.decoder = decoder | dict(init_cfg=init | dict(prefix='decoder.'))
        if 'decoder_pos_embed' in {name.rpartition('.')[2] for name in weights}:  # MAE's looks at the class token
            encoder.backbone['decode_cls_token'] = True
    encoder.values = read_values(checkpoint, called)
    encoder.origin = list_weights(weights, prefix, decoder is not None, called)
    if size != known:
        shown = known or ' x '.join(map(str, own))
        encoder.origin += f' Positions of {shown} px are interpolated to {size} px.'
    return replace(settings, size=size, channels=channels), encoder


def add_teacher(settings: PretrainSettings, encoder: Encoder) -> PretrainSettings:
    """Set the weights ``teacher`` as an encoder's teacher; return settings that go with it."""
    if settings.method not in (None, 'mae'):
        raise ValueError(f'--teacher goes with masked autoencoding alone: leave --method {settings.method} out')
    source, called, checkpoint, _, prefix, teacher = read_source(str(settings.teacher), None, '--teacher')
    own, theirs = settings.channels or 3, teacher.backbone.get('in_channels', 3)
    if own not in (1, theirs):
        raise ValueError(f'{called} takes images of {theirs} channels, and those of the run have {own}: give another')
    size, unit, parts = settings.size or SIZE, teacher.unit_size, max(1, encoder.unit_size // teacher.unit_size)
    seen = size // encoder.unit_size * parts * unit
    if teacher.backbone['type'] == 'coma_mm.MaskedViT':
        teacher.backbone['img_size'] = seen
    teacher.backbone['init_cfg'] = dict(type='coma_mm.Pretrained', checkpoint=source, prefix=prefix)
    encoder.teacher = dict(mode='frozen', encoder=teacher.backbone, **read_values(checkpoint, called))
    scaled = '' if seen == size else f', scaled to {seen} px'
    said = (
        f'Its teacher is the {teacher.name} of {called}, frozen: it sees what is hidden{scaled}, and its tokens are '
        'predicted beside the pixels.'
    )
    encoder.origin = f'{encoder.origin} {one_line(said)}'.strip()
    return replace(settings, method='mae')


def read_source(name: str, channels: int | None, option: str) -> tuple[str, str, dict, dict[str, Tensor], str, Encoder]:
    """Read the weights that an option names.

    Returns:
        Their file or address, how to call it, what it holds, its weights, what stands before the names of those of the
        encoder, and the encoder.
    """
    source = find_weights(name)
    called = one_line(source if '://' in source else short_path(Path(source)))
    checkpoint = read_checkpoint(source)
    weights = rename_vit(get_state_dict(checkpoint))
    try:
        prefix, encoder = read_encoder(checkpoint, weights, called, channels or 3, option)
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # what stands in a file can be wrong in any way
        raise ValueError(f'{called} has invalid settings of its encoder: {one_line(str(error))[:200]}') from None
    return source, called, checkpoint, weights, prefix, encoder


def read_encoder(
    checkpoint: dict, weights: dict[str, Tensor], called: str, channels: int, option: str = '--init'
) -> tuple[str, Encoder]:
    """Return the prefix of an encoder's weights, and the encoder; others are refused."""
    said = read_settings(checkpoint) or {}
    arch = said.get('arch')
    if (prefix := find_parts(weights, 'patch_embed.weight', 'stages.0.blocks.0.norm1.weight')) is not None:
        arguments = read_dyvit(checkpoint) or guess_dyvit(weights, prefix, channels)
        if arguments is None:
            raise ValueError(f'{called} has a DyViT of a shape without a name, and does not say its settings')
        try:
            with torch.device('meta'), bounded_building(weights, arguments):  # not far larger than its weights
                shape = DyViT(**arguments).settings
        except Exception as error:  # what stands in a file can be wrong in any way
            raise ValueError(f'{called} says settings that DyViT does not take: {one_line(str(error))[:300]}') from None
        name = next((one for one, known in ARCHITECTURES.items() if known == shape['arch']), '')
        backbone = dict(type='coma_mm.DyViT', **arguments) | dict(img_size=arguments.get('img_size', 224))
        backbone.setdefault('patch_size', 4)
        return prefix, suit(f'DyViT-{name}'.rstrip('-'), backbone, shape['arch']['dims'][-1])
    try:
        found = read_vit(weights, arch.get('num_heads') if isinstance(arch, dict) else None)
    except ValueError as error:
        raise ValueError(f'{called} has {error}, so {option} does not take it') from None
    if found is None:
        first = f'its first weight is {next(iter(weights))}' if weights else f'its keys are {[*checkpoint][:3]}'
        if option == '--teacher':
            advice = 'name a run, an exported backbone, or weights of timm, MAE or mmpretrain'
        elif any(re.search(r'(^|\.)blocks\.\d+\.proj\.weight$', name) for name in weights):
            advice = 'a Hiera of timm goes by a config, see docs/start-from-weights.md'
        else:
            advice = f'coma-mm train CONFIG --cfg-options load_from={called} starts a config of its own model'
        raise ValueError(
            f'{called} has neither a DyViT nor a plain ViT ({one_line(first)[:200]}), which {option} takes: {advice}'
        )
    prefix, backbone = found
    if said.get('decode_cls_token') is True:
        backbone['decode_cls_token'] = True
    shape = backbone['arch']
    name = f'ViT of {shape["num_layers"]} blocks, {shape["embed_dims"]} wide'
    return prefix, suit(name, dict(type='coma_mm.MaskedViT') | backbone, shape['embed_dims'])


def suit(name: str, backbone: dict, width: int) -> Encoder:
    """Return an encoder with the decoder and the rate of the variant that is as wide."""
    variants = [one for arch, one in VARIANTS.items() if (arch in VITS) == (backbone['type'] == 'coma_mm.MaskedViT')]
    variant = next((one for one in variants if width <= one.width), variants[-1])
    return Encoder(name, backbone, variant.decoder, variant.lr)


def guess_dyvit(weights: dict[str, Tensor], prefix: str, channels: int) -> dict | None:
    """Return the settings of a bare DyViT whose shape is one of those with a name."""
    places = [
        name.removeprefix(f'{prefix}stages.').split('.') for name in weights if name.startswith(f'{prefix}stages.')
    ]
    blocks = {(int(place[0]), int(place[2])) for place in places if place[1] == 'blocks'}
    depths = tuple(sum(stage == i for stage, _ in blocks) for i in range(4))
    patch_size = math.isqrt(weights[f'{prefix}patch_embed.weight'].shape[1] // channels)
    for name, shape in ARCHITECTURES.items():
        if shape['depths'] == depths and shape['dims'][0] == len(weights[f'{prefix}patch_embed.weight']):
            size = {1: 32, 2: 64}.get(patch_size, 224)
            return dict(arch=name, patch_size=patch_size, img_size=size, in_channels=channels)
    return None


def read_decoder(checkpoint: dict, weights: dict[str, Tensor], encoder: Encoder) -> dict | None:
    """Return the settings of the decoder in a file; ``None`` without one that predicts pixels of this encoder alone."""
    own = {name.removeprefix('decoder.'): value for name, value in weights.items() if name.startswith('decoder.')}
    parts = 'embeddings.0.weight', 'blocks.0.attn.qkv.weight', 'prediction.weight'
    if not all(name in own for name in parts) or 'embeddings.1.weight' in own:
        return None
    channels = encoder.backbone.get('in_channels', 3)
    if len(own['prediction.weight']) != channels * encoder.unit_size**2:
        return None
    dim = len(own['embeddings.0.weight'])
    depth = len({name.split('.')[1] for name in own if name.startswith('blocks.')})
    try:
        said = (read_config_text(str(read_meta(checkpoint).get('cfg') or '')).get('model') or {}).get('decoder') or {}
    except (AttributeError, SyntaxError, TypeError, ValueError):
        said = {}
    ratio = len(own['blocks.0.mlp.0.weight']) / dim
    return dict(dim=dim, depth=depth, num_heads=said.get('num_heads', dim // 32), mlp_ratio=ratio)


def read_values(checkpoint: dict, called: str) -> dict:
    """Return mean and std of pixels that a file says; colours in another order are refused."""
    said = find_normalisation(checkpoint)
    if said.get('channel_order') == 'BGR' and len(said.get('mean') or ()) == 3:
        raise ValueError(f'{called} takes images in the order BGR, which pre-training does not give')
    return {name: said[name] for name in ('mean', 'std') if said.get('mean') and said.get('std')}


def list_weights(weights: dict[str, Tensor], prefix: str, with_decoder: bool, called: str) -> str:
    """Return a sentence on what is taken from a file, and what is not."""
    of_decoder = [name for name in weights if with_decoder and name.startswith('decoder.')]
    left = [name for name in weights if not (with_decoder and name.startswith('decoder.'))]
    taken = [name for name in left if name.startswith(prefix)]
    others = [name for name in left if not name.startswith(prefix)]
    parts = f'{len(taken)} tensors of the encoder, ' + (
        f'{len(of_decoder)} of the decoder' if of_decoder else 'and a decoder of random weights'
    )
    rest = f'; not taken: {len(others)} ({", ".join(others[:3])}{", ..." if len(others) > 3 else ""})' if others else ''
    return one_line(f'It starts from {called}: {parts}{rest}.')
