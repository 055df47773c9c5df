"""Write the backbone of any checkpoint: its weights (.pth, .safetensors), a graph (.onnx, .pt2), or a hub folder."""

import hashlib
import json
import os
import re
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope

from ..checkpoints.bounded_building import bounded_building
from ..datasets.loading import read_channels
from ..engine.checkpoint import describe_backbone
from ..engine.common import find_steps, read_loading, read_normalisation
from ..engine.graph import ENDINGS as GRAPHS
from ..engine.graph import write_graph
from ..engine.hub import IMAGE_KEYS, write_hub_folder
from ..engine.running import read_config
from ..models import load_backbone, read_checkpoint
from ..models.pretrained import get_state_dict, read_config_text, read_meta, read_settings
from ..utils.manifest import any_file, own_file
from ..utils.reading import parse_json
from ..utils.text import one_line
from ..version import __version__
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser

WEIGHTS = ('.pth', '.safetensors')
# What may be built of what a checkpoint says, without asking: classes that only compute, by where they are defined.
SCOPES = ('coma_mm', 'mmpretrain', 'mmdet', 'mmseg', 'mmengine')
BACKBONES = *(f'{scope}.models.backbones.' for scope in SCOPES[1:4]), 'coma_mm.models.dyvit', 'coma_mm.models.vit'
LAYERS = (
    *BACKBONES,
    *(f'{scope}.models.{part}.' for scope in SCOPES[1:4] for part in ('layers', 'utils')),
    'mmcv.cnn.',
    'mmcv.ops.',
    'mmengine.model.',
    'torch.nn.',
)
NO_SCRIPT = (
    'TorchScript cannot express this model (torch.jit.script and torch.jit.trace fail, docs/export.md); name '
    'an .onnx or .pt2 file'
)
TRUST = 'if you trust its config, give it with --config CONFIG'


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the options, those of the command line if there are no others."""
    parser = ArgumentParser(
        description=__doc__,
        epilog='.pth and .safetensors are loaded by init_cfg=dict(type="coma_mm.Pretrained", checkpoint=OUT), by '
        'coma_mm.load_backbone(OUT), or in plain PyTorch by '
        'DyViT(arch).load_state_dict(torch.load(OUT, weights_only=True)["state_dict"]). More: docs/export.md.',
    )
    parser.add_argument(
        'checkpoint', type=types.checkpoint_file, help='of pre-training or of any model with a backbone'
    )
    parser.add_argument(
        'out',
        nargs='?',
        type=types.output_file(*WEIGHTS, *GRAPHS, advice=dict.fromkeys(('.pt', '.ts', '.torchscript'), NO_SCRIPT)),
        help=f'a name that ends in {", ".join(WEIGHTS)}, {" or ".join(GRAPHS)}',
    )
    parser.add_argument(
        '--config', type=types.path, help='if the checkpoint does not tell its backbone: the config that does'
    )
    parser.add_argument('--prefix', help="what stands before the backbone's names, if not backbone. or the like")
    graphs = parser.add_argument_group('for .onnx and .pt2')
    size = graphs.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        type=types.image_size,
        nargs=2,
        metavar=('H', 'W'),
        help="of the images in pixels (the backbone's img_size, or 224)",
    )
    size.add_argument('--dynamic', action='store_true', help='images of any size')
    graphs.add_argument(
        '--out-indices',
        type=types.whole(0, 1000),
        nargs='+',
        metavar='I',
        help='stages whose maps are returned (those of the checkpoint)',
    )
    hub = parser.add_argument_group('for the hub')
    hub.add_argument(
        '--hub-dir',
        type=types.output_folder,
        metavar='DIR',
        help='a new folder: config.json, model.safetensors and a model card',
    )
    hub.add_argument(
        '--license',
        type=types.text,
        default='unknown',
        metavar='ID',
        help="of the weights, in the hub's terms: apache-2.0, ... (unknown)",
    )
    add_force(parser)
    args = parser.parse_args(argv)
    if not args.out and not args.hub_dir:
        parser.error('say what to write: OUT, --hub-dir DIR or both')
    if args.out_indices and args.out_indices != sorted({*args.out_indices}):
        parser.error(f'argument --out-indices: must be different numbers in ascending order, got {args.out_indices}')
    if (args.size or args.dynamic or args.out_indices) and not (args.out or '').endswith(GRAPHS):
        parser.error('--size, --dynamic and --out-indices are for .onnx and .pt2')
    if not re.fullmatch(r'[a-z0-9][a-z0-9.-]*', args.license):
        parser.error(f"--license takes the hub's name of a licence, such as apache-2.0, not {args.license!r}")
    if args.hub_dir and not Path(args.hub_dir).absolute().parent.is_dir():
        parser.error(f'there is no folder {Path(args.hub_dir).parent}')
    if args.out:
        check_output(args.out, 'OUT', [args.checkpoint, args.config], args.force)
    return args


def find_backbone(checkpoint: dict, config: str | None) -> tuple[dict, str, str]:
    """Return the arguments of the backbone, the default scope they are meant in, and a hash of the config."""
    meta = read_meta(checkpoint)
    text = meta.get('cfg')
    text = text if isinstance(text, str) else ''
    if config:
        cfg = read_config(config)
        text, arguments, scope = cfg.pretty_text, (cfg.get('model') or {}).get('backbone'), cfg.get('default_scope')
    else:
        arguments = read_settings(checkpoint)
        scope = meta['scope'] if 'scope' in meta else arguments and read_config_text(text).get('default_scope')
        if scope and scope not in SCOPES:
            raise ValueError(f'the checkpoint says that its backbone is meant in the scope {scope!r}; {TRUST}')
    if not arguments:
        if not config and not text:
            raise ValueError('the checkpoint does not say which backbone it has; name its config with --config CONFIG')
        raise ValueError(f'no backbone can be read from the model of {config or "its config"}')
    config_hash = hashlib.sha256(text.encode()).hexdigest()[:12] if text else meta.get('config_sha256', 'unknown')
    return arguments, scope or 'mmengine', config_hash


def find_normalisation(checkpoint: dict, config: str | None) -> dict[str, str]:
    """Return what is done to images before they go in, as JSON: :data:`IMAGE_KEYS`, as far as they are known."""
    meta = read_meta(checkpoint)
    text = read_config(config).pretty_text if config else meta.get('cfg') or ''
    if not text:
        return {name: _checked(name, meta[name]) for name in IMAGE_KEYS[:3] if name in meta} | find_loading(meta)
    for name in ('train_dataloader', 'test_dataloader'):
        try:
            cfg = read_config_text(text, (name,))
        except (AttributeError, SyntaxError, TypeError, ValueError):  # made of more than literals
            continue
        if next(find_steps(cfg), None) is not None:
            return find_loading({key: json.dumps(value) for key, value in read_loading(cfg).items()}) | find_values(
                text
            )
    return find_values(text)


def _checked(name: str, text: object) -> str:
    """Return what a file says of ``mean``, ``std`` or ``channel_order`` if it can be true.

    Raises:
        ValueError: If not.
    """
    try:
        value = parse_json(str(text)[:10_000])
    except ValueError:
        value = ''
    numbers = isinstance(value, list) and all(type(x) in (int, float) and abs(x) < 1e9 for x in value)
    if not (value is None or (value in ('RGB', 'BGR') if name == 'channel_order' else numbers)):
        raise ValueError(f'the checkpoint says that {name} is {one_line(text)[:100]}, which cannot be; {TRUST}')
    return json.dumps(value)


def find_loading(meta: dict[str, str]) -> dict[str, str]:
    """Return ``channels`` and ``value_range`` that a file says, as JSON; nothing if they cannot be true."""
    try:
        channels, value_range = (parse_json(meta.get(name, 'null')) for name in IMAGE_KEYS[3:])
        channels, value_range = read_channels(channels, value_range)
    except (AttributeError, TypeError, ValueError):
        return {}
    return dict(channels=json.dumps(channels), value_range=json.dumps(value_range))


def find_values(text: str) -> dict[str, str]:
    """Return ``mean``, ``std`` and ``channel_order`` of a config's text, as JSON, if they are known."""
    try:
        cfg = read_config_text(text, ('model', 'data_preprocessor'))
        settings = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    except (AttributeError, SyntaxError, TypeError, ValueError):
        return {}
    return {name: json.dumps(value) for name, value in read_normalisation(settings, text).items()} if settings else {}


def check_types(arguments: dict, scope: str) -> None:
    """Refuse arguments that came with a file and would have more built than a backbone: registries build any name.

    Raises:
        ValueError: With the first type that is no backbone or, inside one, no layer.
    """

    def check(value: object, scope: str, modules: tuple[str, ...], what: str) -> None:
        if isinstance(value, dict):
            if 'type' in value or modules is BACKBONES:
                kind, scope = value.get('type'), value.get('_scope_', scope)
                if not isinstance(kind, str) or not is_registered(kind, scope, modules):
                    raise ValueError(
                        f'the checkpoint says that its backbone is built of {kind!r}, which is no registered {what} of '
                        f'{", ".join(SCOPES)}; {TRUST}'
                    )
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for child in value:
                check(child, scope, LAYERS, 'backbone or layer')

    check(arguments, scope, BACKBONES, 'backbone')


def is_registered(name: str, scope: str, modules: tuple[str, ...]) -> bool:
    """Say whether a registry of OpenMMLab has under a name a network that is defined in one of these modules."""
    scope, _, name = name.rpartition('.') if '.' in name else (scope, '', name)
    if scope not in SCOPES or name == 'TIMMBackbone':  # which fetches weights and names more types
        return False
    try:
        registry = import_module(f'{scope}.registry').MODELS
    except ImportError as error:
        raise ValueError(f'the checkpoint has a backbone of {scope}, which cannot be imported: {error}') from None
    registry.import_from_location()
    found = registry.module_dict.get(name) or MODELS.module_dict.get(name)
    return isinstance(found, type) and issubclass(found, torch.nn.Module) and found.__module__.startswith(modules)


def without_weights(arguments: Any) -> Any:
    """Return arguments without what would load weights, or draw them, at any depth: they are in the file."""
    if isinstance(arguments, dict):
        kept = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained', 'compile')}
        return {name: without_weights(value) for name, value in kept.items()}
    return [without_weights(value) for value in arguments] if isinstance(arguments, (list, tuple)) else arguments


def build_backbone(arguments: dict, checkpoint: dict) -> torch.nn.Module:
    """Build the backbone for the weights of a checkpoint.

    Raises:
        ValueError: If the arguments are not such as it takes, or describe one that is far larger than its weights.
    """
    try:
        with MODELS.switch_scope_and_registry(None) as registry:
            registry.get(arguments['type'])  # which imports a toolbox, and that takes longer than building may
        with bounded_building(get_state_dict(checkpoint), arguments):
            return MODELS.build(arguments)
    except Exception as error:  # what stands in a file can be wrong in any way
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        raise ValueError(f'no {arguments["type"]} can be built with its settings: {reason[:500]}') from error


def write(path: str, weights: dict[str, torch.Tensor], meta: dict[str, str], kind: str | None = None) -> None:
    """Write the file that the name's ending asks for; as one of a run, if it is to be of a kind in its manifest."""
    place = Path(path)
    with own_file(place.parent, place.name, kind) if kind else any_file(path) as unfinished:
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


def main(argv: Sequence[str] | None = None, kind: str | None = None) -> None:
    """Export; see :func:`write` for the kind."""
    args = parse_args(argv)
    checkpoint = read_checkpoint(args.checkpoint)
    arguments, scope, config_hash = find_backbone(checkpoint, args.config)
    arguments = without_weights(arguments)
    if not args.config:
        check_types(arguments, scope)
    init_default_scope(scope)
    if args.out_indices:
        arguments['out_indices'] = args.out_indices
    backbone = build_backbone(arguments, checkpoint)
    load_backbone(backbone, checkpoint, args.checkpoint, args.prefix)
    weights = {name: value.contiguous() for name, value in backbone.state_dict().items()}

    old = read_meta(checkpoint)
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
    meta |= find_normalisation(checkpoint, args.config)
    of_what = f'{type(backbone).__name__} {meta["arch"]}, epochs {meta["epochs"]}, config {config_hash}'
    if args.out:
        if args.out.endswith(GRAPHS):
            size = args.size or getattr(backbone, 'img_size', 224)
            size = (size, size) if isinstance(size, int) else tuple(size)
            difference, shapes = write_graph(backbone, args.out, size, args.dynamic, meta)
            what = f'as computed by the model, to {difference:.1g}, at {", ".join(shapes)}'
        else:
            write(args.out, weights, meta, kind)
            what = f'{len(weights)} tensors, {sum(value.numel() for value in weights.values()) / 1e6:.1f} M values'
        print(f'{args.out}: {of_what}; {what}, {os.path.getsize(args.out) / 2**20:.1f} MB')
    if args.hub_dir:
        write_hub_folder(args.hub_dir, backbone, meta, args.license, lambda path: write(path, weights, meta))
        print(f'{args.hub_dir}: {of_what}; to upload it: hf upload USER/NAME {args.hub_dir}')
