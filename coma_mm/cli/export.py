"""Write the backbone of any checkpoint, alone, to a file that plain PyTorch (.pth) or safetensors reads."""

import hashlib
import json
import os
from argparse import Namespace
from importlib import import_module
from io import BytesIO
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope

from ..engine.checkpoint import describe_backbone
from ..engine.running import read_config
from ..files import whole_file
from ..models import load_backbone, read_checkpoint
from ..models.pretrained import read_config_text, read_settings
from ..version import __version__
from .options import ArgumentParser, checkpoint_file, output_file

# What may be built of what a checkpoint says, without asking: classes that only compute, by where they are defined.
SCOPES = ('coma_mm', 'mmpretrain', 'mmdet', 'mmseg', 'mmengine')
LAYERS = (
    *(f'{scope}.models.{part}.' for scope in SCOPES[1:4] for part in ('backbones', 'layers', 'utils')),
    'coma_mm.models.',
    'mmcv.',
    'mmengine.model.',
    'torch.nn.',
)


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(
        description=__doc__,
        epilog='The file is loaded by init_cfg=dict(type="coma_mm.Pretrained", checkpoint=OUT), or in plain PyTorch by '
        'DyViT(arch).load_state_dict(torch.load(OUT, weights_only=True)["state_dict"]).',
    )
    parser.add_argument('checkpoint', type=checkpoint_file, help='of pre-training or of any model with a backbone')
    parser.add_argument('out', type=output_file, help='a name that ends in .pth or .safetensors')
    parser.add_argument('--config', help='if the checkpoint does not tell its backbone: the config that does')
    parser.add_argument('--prefix', help="what stands before the backbone's names, if not backbone. or the like")
    args = parser.parse_args()
    if not args.out.endswith(('.pth', '.safetensors')):
        parser.error(f'give a name that ends in .pth or .safetensors, not {args.out}')
    return args


def find_backbone(checkpoint: dict, config: str | None) -> tuple[dict, str, str]:
    """Return the arguments of the backbone, the default scope they are meant in, and a hash of the config."""
    meta = checkpoint.get('meta') or {}
    text = meta.get('cfg') or ''
    if config:
        cfg = read_config(config)
        text, arguments, scope = cfg.pretty_text, (cfg.get('model') or {}).get('backbone'), cfg.get('default_scope')
    else:
        arguments = read_settings(checkpoint)
        scope = meta['scope'] if 'scope' in meta else arguments and read_config_text(text).get('default_scope')
    if not arguments:
        if not config and not text:
            raise ValueError('the checkpoint does not say which backbone it has; name its config with --config CONFIG')
        raise ValueError(f'no backbone can be read from the model of {config or "its config"}')
    config_hash = hashlib.sha256(text.encode()).hexdigest()[:12] if text else meta.get('config_sha256', 'unknown')
    return arguments, scope or 'mmengine', config_hash


def check_types(arguments: object, scope: str) -> None:
    """Refuse arguments that came with a file and would have more built than layers: registries build any dotted name.

    Raises:
        ValueError: With the first type that is none of a backbone or its layers.
    """
    if isinstance(arguments, (list, tuple)):
        for value in arguments:
            check_types(value, scope)
    elif isinstance(arguments, dict):
        if 'type' in arguments:
            found = find_layer(str(arguments['type']), arguments.get('_scope_', scope))
            if found is None:
                raise ValueError(
                    f'the checkpoint says that its backbone is built of {arguments["type"]!r}, which is no registered '
                    f'backbone or layer of {", ".join(SCOPES)}; if you trust its config, give it with --config CONFIG'
                )
        for name, value in arguments.items():
            if name != 'init_cfg':  # which nobody asks for here
                check_types(value, scope)


def find_layer(name: str, scope: str) -> type | None:
    """Return the class that a registry of OpenMMLab has under a name, if it is one of :data:`LAYERS`."""
    scope, _, name = name.rpartition('.') if '.' in name else (scope, '', name)
    if scope not in SCOPES or name == 'TIMMBackbone':  # which fetches weights and names more types
        return None
    try:
        registry = import_module(f'{scope}.registry').MODELS
    except ImportError as error:
        raise ValueError(f'the checkpoint has a backbone of {scope}, which cannot be imported: {error}') from None
    registry.import_from_location()
    found = registry.module_dict.get(name) or MODELS.module_dict.get(name)
    is_layer = isinstance(found, type) and issubclass(found, torch.nn.Module) and found.__module__.startswith(LAYERS)
    return found if is_layer else None


def write(path: str, weights: dict[str, torch.Tensor], meta: dict[str, str]) -> None:
    """Write the file that the name's ending asks for."""
    with whole_file(path) as unfinished:
        if path.endswith('.pth'):
            content = BytesIO()  # torch, too, would hide what the system says of a full disk
            torch.save(dict(state_dict=weights, meta=meta), content)
            unfinished.write_bytes(content.getbuffer())
        else:
            write_safetensors(unfinished, weights, meta)


def write_safetensors(path: Path, weights: dict[str, torch.Tensor], meta: dict[str, str]) -> None:
    """Write such a file; where that fails, with the system's own reason, which the library words differently."""
    from safetensors.torch import save

    path.write_bytes(save(weights, metadata=meta))


def main() -> None:
    """Export."""
    args = parse_args()
    checkpoint = read_checkpoint(args.checkpoint)
    arguments, scope, config_hash = find_backbone(checkpoint, args.config)
    if not args.config:
        check_types(arguments, scope)
    init_default_scope(scope)
    arguments = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained')}
    backbone = MODELS.build(dict(arguments))
    load_backbone(backbone, checkpoint, args.checkpoint, args.prefix)
    weights = {name: value.contiguous() for name, value in backbone.state_dict().items()}

    old = checkpoint.get('meta') or {}
    arch = arguments.get('arch', 'base' if str(arguments['type']).endswith('DyViT') else arguments['type'])
    meta = dict(
        arch=arch if isinstance(arch, str) else json.dumps(arch, sort_keys=True),
        backbone=describe_backbone(arguments, backbone),
        scope=scope,
        config_sha256=config_hash,
        epochs=str(old.get('epochs', old.get('epoch', 'unknown'))),
        iterations=str(old.get('iterations', old.get('iter', 'unknown'))),
        coma_mm=__version__,
    )
    write(args.out, weights, meta)
    count = sum(value.numel() for value in weights.values()) / 1e6
    print(
        f'{args.out}: {type(backbone).__name__} {meta["arch"]}, {len(weights)} tensors, {count:.1f} M values, '
        f'{os.path.getsize(args.out) / 2**20:.1f} MB; epochs {meta["epochs"]}, config {config_hash}'
    )
