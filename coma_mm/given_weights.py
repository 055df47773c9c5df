"""Weights that ``--init`` and ``--teacher`` name: whose they are, and whether their decoder goes on as well."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoints.bounded_building import bounded_building
from .checkpoints.finding import find_weights
from .checkpoints.reading import get_state_dict, read_checkpoint
from .checkpoints.settings import read_config_text, read_dyvit, read_meta, read_settings
from .checkpoints.vit_names import find_parts, read_vit, rename_vit
from .export.source import find_normalisation
from .models.architectures import ARCHITECTURES
from .models.distillation import choose_size
from .models.dyvit import DyViT
from .recipe import DEFAULT_SIZE, TAUGHT, VARIANTS, Encoder, choose_patch
from .settings import VITS, PretrainSettings, find_arch
from .utils.paths import short_path
from .utils.text import one_line


class Source(NamedTuple):
    """Weights that an option names, and the encoder that they are of."""

    place: str  # file or address
    called: str  # that, as messages name it
    checkpoint: dict
    weights: dict[str, Tensor]
    prefix: str  # of the names of the encoder's weights
    encoder: Encoder

    @property
    def init_cfg(self) -> dict:
        """Config that loads the encoder."""
        return dict(type='coma_mm.Pretrained', checkpoint=self.place, prefix=self.prefix)


def start_from(settings: PretrainSettings) -> tuple[PretrainSettings, Encoder]:
    """Return the encoder of the weights ``init``, and settings that go with it."""
    source = read_source(str(settings.init), settings.channels, '--init')
    called, encoder = source.called, source.encoder
    if settings.arch is not None and encoder.name != f'DyViT-{find_arch(settings.arch)}':
        raise ValueError(f'{called} has a {encoder.name}, so leave --arch {settings.arch} out')
    channels = encoder.backbone.get('in_channels', 3)
    if settings.channels not in (None, channels):
        raise ValueError(
            f'{called} takes images of {channels} channels: give --channels {channels}, in place of {settings.channels}'
        )
    decoder = read_decoder(source.checkpoint, source.weights, encoder)
    init_cfg, resized = source.init_cfg, ''
    if encoder.backbone['type'] == 'coma_mm.DyViT' and settings.size is not None:
        old, new = encoder.backbone['patch_size'], choose_patch(settings.size)
        if old != new:
            init_cfg |= dict(from_patch_size=old)
            resized = f' Patches of {old} px are resized to {new} px.'
            resize_patches(encoder.backbone, new)
    encoder.backbone['init_cfg'] = init_cfg
    own = encoder.backbone['img_size']
    known = own if isinstance(own, int) else own[0] if len(set(own)) == 1 else None
    size = settings.size or known
    if size is None:
        raise ValueError(f'{called} takes images of {own[0]} x {own[1]} px, and crops are squares: give --size')
    encoder.check_size(size)
    if encoder.backbone['type'] == 'coma_mm.MaskedViT':
        encoder.backbone['img_size'] = size
    if decoder:
        encoder.decoder = decoder | dict(init_cfg=init_cfg | dict(prefix='decoder.'))
        if 'decoder_pos_embed' in {name.rpartition('.')[2] for name in source.weights}:  # MAE's sees the class token
            encoder.backbone['decode_cls_token'] = True
    encoder.normalisation = read_mean_and_std(source)
    encoder.origin = describe_weights(source, with_decoder=decoder is not None) + resized
    if size != known:
        shown = known or ' x '.join(map(str, own))
        encoder.origin += f' Positions of {shown} px are interpolated to {size} px.'
    # Alignment keeps features from collapsing at the start; those that are there do without its operations.
    return replace(settings, size=size, channels=channels, method=settings.method or 'mae'), encoder


def resize_patches(backbone: dict, new: int) -> None:
    """Give a DyViT patches of another size, and the image size of its pre-training enlarged along with them."""
    old, sides = backbone['patch_size'], backbone['img_size']
    sides = (sides, sides) if isinstance(sides, int) else sides
    backbone.update(patch_size=new, img_size=[side * new // old for side in sides])


def add_teacher(settings: PretrainSettings, encoder: Encoder) -> PretrainSettings:
    """Set the weights ``teacher`` as an encoder's teacher; return settings that go with it."""
    if settings.method not in (None, 'mae'):
        raise ValueError(f'--teacher goes with masked autoencoding alone: leave --method {settings.method} out')
    source = read_source(str(settings.teacher), None, '--teacher')
    called, teacher = source.called, source.encoder
    own, theirs = settings.channels or 3, teacher.backbone.get('in_channels', 3)
    if own not in (1, theirs):
        raise ValueError(f'{called} takes images of {theirs} channels, and those of the run have {own}: give another')
    teacher.backbone['init_cfg'] = source.init_cfg
    encoder.teacher = dict(mode='frozen', encoder=teacher.backbone, **read_mean_and_std(source))
    size = settings.size or DEFAULT_SIZE
    units = size // encoder.unit_size
    unit_size = teacher.unit_size if teacher.backbone['type'] == 'coma_mm.DyViT' else None
    seen = choose_size(teacher.backbone['img_size'], unit_size, (units, units))
    scaled = '' if seen == (size, size) else f', scaled to {seen[0]} x {seen[1]} px'
    said = (
        f'Its teacher is the {teacher.name} of {called}, frozen: it sees the whole images{scaled}, and what it makes '
        'of each unit is predicted beside the pixels.'
    )
    encoder.origin = f'{encoder.origin}\n{one_line(said)}'.strip()
    return replace(settings, method='mae', mask_ratio=settings.mask_ratio or TAUGHT.mask_ratio)


def read_source(name: str, channels: int | None, option: str) -> Source:
    """Read the weights that an option names."""
    place = find_weights(name)
    called = one_line(place if '://' in place else short_path(Path(place)))
    checkpoint = read_checkpoint(place)
    weights = rename_vit(get_state_dict(checkpoint))
    try:
        prefix, encoder = read_encoder(checkpoint, weights, called, channels or 3, option)
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # what stands in a file can be wrong in any way
        raise ValueError(f'{called} has invalid settings of its encoder: {one_line(str(error))[:200]}') from None
    return Source(place, called, checkpoint, weights, prefix, encoder)


def read_encoder(
    checkpoint: dict, weights: dict[str, Tensor], called: str, channels: int, option: str = '--init'
) -> tuple[str, Encoder]:
    """Return the prefix of an encoder's weights, and the encoder; refuse what is neither a DyViT nor a plain ViT."""
    if (prefix := find_parts(weights, 'patch_embed.weight', 'stages.0.blocks.0.norm1.weight')) is not None:
        return prefix, _make_dyvit(checkpoint, weights, prefix, called, channels)
    said = read_settings(checkpoint) or {}
    arch = said.get('arch')
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
    sizes = backbone['arch']
    name = f'ViT of {sizes["num_layers"]} blocks, {sizes["embed_dims"]} wide'
    return prefix, _with_defaults(name, dict(type='coma_mm.MaskedViT') | backbone, sizes['embed_dims'])


def _make_dyvit(checkpoint: dict, weights: dict[str, Tensor], prefix: str, called: str, channels: int) -> Encoder:
    """Return the DyViT of a checkpoint, by its settings or by the shapes of its weights."""
    arguments = read_dyvit(checkpoint) or guess_dyvit(weights, prefix, channels)
    if arguments is None:
        raise ValueError(f'{called} has a DyViT of a shape without a name, and does not say its settings')
    try:
        with torch.device('meta'), bounded_building(weights, arguments):  # not far larger than its weights
            arch = DyViT(**arguments).settings['arch']
    except Exception as error:  # what stands in a file can be wrong in any way
        raise ValueError(f'{called} says settings that DyViT does not take: {one_line(str(error))[:300]}') from None
    name = next((one for one, known in ARCHITECTURES.items() if known == arch), '')
    backbone = dict(type='coma_mm.DyViT', **arguments) | dict(img_size=arguments.get('img_size', 224))
    backbone.setdefault('patch_size', 4)
    return _with_defaults(f'DyViT-{name}'.rstrip('-'), backbone, arch['dims'][-1])


def _with_defaults(name: str, backbone: dict, width: int) -> Encoder:
    """Return an encoder with the decoder and the learning rate of the variant that is as wide."""
    variants = [one for arch, one in VARIANTS.items() if (arch in VITS) == (backbone['type'] == 'coma_mm.MaskedViT')]
    variant = next((one for one in variants if width <= one.width), variants[-1])
    return Encoder(name, backbone, variant.decoder, variant.lr)


def guess_dyvit(weights: dict[str, Tensor], prefix: str, channels: int) -> dict | None:
    """Return the settings of a bare DyViT whose depths and first width are those of an architecture with a name."""
    stages = f'{prefix}stages.'
    parts = [name.removeprefix(stages).split('.') for name in weights if name.startswith(stages)]
    blocks = {(int(part[0]), int(part[2])) for part in parts if part[1] == 'blocks'}
    depths = tuple(sum(stage == i for stage, _ in blocks) for i in range(4))
    patch_size = math.isqrt(weights[f'{prefix}patch_embed.weight'].shape[1] // channels)
    for name, arch in ARCHITECTURES.items():
        if arch['depths'] == depths and arch['dims'][0] == len(weights[f'{prefix}patch_embed.weight']):
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


def read_mean_and_std(source: Source) -> dict:
    """Return mean and std of pixels that a file says; refuse colours in another order."""
    said = find_normalisation(source.checkpoint)
    if said.get('channel_order') == 'BGR' and len(said.get('mean') or ()) == 3:
        raise ValueError(f'{source.called} takes images in the order BGR, which pre-training does not give')
    return {name: said[name] for name in ('mean', 'std') if said.get('mean') and said.get('std')}


def describe_weights(source: Source, with_decoder: bool) -> str:
    """Return a sentence on what is taken from a file, and what is not."""
    of_decoder = [name for name in source.weights if with_decoder and name.startswith('decoder.')]
    left = [name for name in source.weights if not (with_decoder and name.startswith('decoder.'))]
    taken = [name for name in left if name.startswith(source.prefix)]
    others = [name for name in left if not name.startswith(source.prefix)]
    parts = f'{len(taken)} tensors of the encoder, ' + (
        f'{len(of_decoder)} of the decoder' if of_decoder else 'and a decoder of random weights'
    )
    rest = f'; not taken: {len(others)} ({", ".join(others[:3])}{", ..." if len(others) > 3 else ""})' if others else ''
    return one_line(f'It starts from {source.called}: {parts}{rest}.')
