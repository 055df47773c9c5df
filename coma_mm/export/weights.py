"""Weights of a backbone as a file, and all that is exported of a checkpoint."""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope

from ..checkpoints.settings import describe_backbone, read_meta
from ..models import load_backbone, read_checkpoint
from ..utils.manifest import any_file
from ..utils.text import one_line
from ..version import __version__
from . import GRAPHS
from .graph import Classifier, write_graph
from .hub import write_hub_folder
from .source import build_backbone, check_types, find_backbone, find_normalisation, without_weights


def export(
    source: str,
    out: str | None = None,
    config: str | None = None,
    prefix: str | None = None,
    size: Sequence[int] | None = None,
    dynamic: bool = False,
    out_indices: Sequence[int] | None = None,
    hub_dir: str | None = None,
    licence: str = 'unknown',
    kind: str | None = None,
    head: bool = False,
) -> None:
    """Write the backbone of a checkpoint, and print what was written; arguments are options of ``coma-mm export``.

    ``kind`` is what ``out`` becomes in the manifest of its folder, if that is a run's.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it does not say which backbone it has, or says what cannot be.
    """
    checkpoint = read_checkpoint(source)
    arguments, scope, config_hash = find_backbone(checkpoint, config)
    arguments = without_weights(arguments)
    if not config:
        check_types(arguments, scope)
    init_default_scope(scope)
    if out_indices:
        arguments['out_indices'] = out_indices
    backbone = build_backbone(arguments, checkpoint)
    load_backbone(backbone, checkpoint, source, prefix)
    weights = {name: value.contiguous() for name, value in backbone.state_dict().items()}
    of_images = {name: json.dumps(value) for name, value in find_normalisation(checkpoint, config).items()}
    meta = describe(checkpoint, arguments, backbone, scope, config_hash) | of_images
    length = f'epochs {meta["epochs"]}' if meta['epochs'] != '0' else f'steps {meta["iterations"]}'
    of_what = f'{type(backbone).__name__} {meta["arch"]}, {length}, config {config_hash}'
    if out:
        if out.endswith(GRAPHS):
            side: Any = size or getattr(backbone, 'img_size', 224)
            sides = (side, side) if isinstance(side, int) else tuple(side)
            graph = Classifier(backbone, checkpoint) if head else backbone
            difference, shapes = write_graph(graph, out, sides, dynamic, meta)
            what = f'as computed by the model, to {difference:.1g}, at {", ".join(shapes)}'
        else:
            write(out, weights, meta, kind)
            what = f'{len(weights)} tensors, {sum(value.numel() for value in weights.values()) / 1e6:.1f} M values'
        print(one_line(f'{out}: {of_what}; {what}, {os.path.getsize(out) / 2**20:.1f} MB'))
    if hub_dir:
        write_hub_folder(hub_dir, backbone, meta, licence, lambda path: write(path, weights, meta))
        print(one_line(f'{hub_dir}: {of_what}; to upload it: hf upload USER/NAME {hub_dir}'))


def describe(
    checkpoint: dict, arguments: dict, backbone: torch.nn.Module, scope: str, config_hash: str
) -> dict[str, str]:
    """Return what a file of weights says of them, but for the images that they are for."""
    old = read_meta(checkpoint)
    arch = arguments.get('arch', 'base' if str(arguments['type']).endswith('DyViT') else arguments['type'])
    return dict(
        arch=arch if isinstance(arch, str) else json.dumps(arch, sort_keys=True),
        backbone=describe_backbone(arguments, backbone),
        scope=scope,
        config_sha256=config_hash,
        epochs=str(old.get('epochs', old.get('epoch', 'unknown'))),
        iterations=str(old.get('iterations', old.get('iter', 'unknown'))),
        coma_mm=__version__,
    )


def write(path: str, weights: dict[str, torch.Tensor], meta: dict[str, str], kind: str | None = None) -> None:
    """Write the file that the name's ending asks for; as one of a run, if it is to be of a kind in its manifest."""
    with any_file(path, kind) as unfinished:
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
