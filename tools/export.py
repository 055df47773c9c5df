#!/usr/bin/env python
"""Write the backbone of any checkpoint, alone, to a file that plain PyTorch (.pth) or safetensors reads."""

import ast
import hashlib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402

from coma_mm import __version__  # noqa: E402
from coma_mm.engine.cli import checkpoint_file, read_config  # noqa: E402
from coma_mm.files import whole_file  # noqa: E402
from coma_mm.models import load_backbone, read_checkpoint  # noqa: E402


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(
        description=__doc__,
        epilog='The file is loaded by init_cfg=dict(type="coma_mm.Pretrained", checkpoint=OUT), or in plain PyTorch by '
        'DyViT(arch).load_state_dict(torch.load(OUT, weights_only=True)["state_dict"]).',
    )
    parser.add_argument('checkpoint', type=checkpoint_file, help='of pre-training or of any model with a backbone')
    parser.add_argument('out', help='a name that ends in .pth or .safetensors')
    parser.add_argument('--config', help='if the checkpoint does not tell its backbone: the config that does')
    parser.add_argument('--prefix', help="what stands before the backbone's names, if not backbone. or the like")
    args = parser.parse_args()
    if not args.out.endswith(('.pth', '.safetensors')):
        parser.error(f'give a name that ends in .pth or .safetensors, not {args.out}')
    if not Path(args.out).absolute().parent.is_dir():
        parser.error(f'there is no folder {Path(args.out).parent}')
    return args


def read_literal(node: ast.expr) -> object:
    """Return the value of a literal or a call of ``dict``; unlike an import of the config it runs nothing."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        value = {}
        for part in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg is None)]:
            value.update(read_literal(part))
        return value | {keyword.arg: read_literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {read_literal(key): read_literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [read_literal(element) for element in node.elts]
    return ast.literal_eval(node)


def read_settings(text: str) -> dict:
    """Return ``model`` and ``default_scope`` of a config's text."""
    settings = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], 'id', None) in (
            'model',
            'default_scope',
        ):
            settings[statement.targets[0].id] = read_literal(statement.value)
    return settings


def find_backbone(checkpoint: dict, config: str | None) -> tuple[dict, str, str]:
    """Return the settings of the backbone, the default scope they are meant in, and a hash of the config."""
    meta = checkpoint.get('meta') or {}
    if config:
        cfg = read_config(config)
        text, settings = cfg.pretty_text, cfg
    elif 'backbone' in meta:  # a file of this tool
        return json.loads(meta['backbone']), meta['scope'], meta['config_sha256']
    elif 'cfg' in meta:
        text = meta['cfg']
        settings = read_settings(text)
    else:
        raise ValueError('the checkpoint does not say which backbone it has; name its config with --config CONFIG')
    if not (settings.get('model') or {}).get('backbone'):
        raise ValueError(f'the model of {config or "its config"} has no backbone')
    backbone = {
        key: value for key, value in settings['model']['backbone'].items() if key not in ('init_cfg', 'pretrained')
    }
    return backbone, settings.get('default_scope') or 'mmengine', hashlib.sha256(text.encode()).hexdigest()[:12]


def write(path: str, weights: dict[str, torch.Tensor], meta: dict[str, str]) -> None:
    """Write the file that the name's ending asks for."""
    with whole_file(path) as unfinished:
        if path.endswith('.pth'):
            torch.save(dict(state_dict=weights, meta=meta), unfinished)
        else:
            from safetensors.torch import save_file

            save_file(weights, unfinished, metadata=meta)


def main() -> None:
    """Export."""
    args = parse_args()
    checkpoint = read_checkpoint(args.checkpoint)
    settings, scope, config_hash = find_backbone(checkpoint, args.config)
    init_default_scope(scope)
    backbone = MODELS.build(dict(settings))
    load_backbone(backbone, checkpoint, args.checkpoint, args.prefix)
    weights = {name: value.contiguous() for name, value in backbone.state_dict().items()}

    old = checkpoint.get('meta') or {}
    arch = settings.get('arch', 'base' if str(settings['type']).endswith('DyViT') else settings['type'])
    meta = dict(
        arch=arch if isinstance(arch, str) else json.dumps(arch),
        backbone=json.dumps(settings),
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


if __name__ == '__main__':
    try:
        main()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
