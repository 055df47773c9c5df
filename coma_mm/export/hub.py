"""A folder as repositories of the Hugging Face hub are: settings, weights and a model card.

``coma_mm.load_backbone``, ``coma_mm.Pretrained`` and, for an architecture that has a name, timm read it.
"""

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoints.reading import HUB_FILE
from ..models.architectures import ARCHITECTURES
from ..utils.files import whole_folder
from ..utils.text import one_line

IMAGE_KEYS = 'mean', 'std', 'channel_order', 'channels', 'value_range'  # of images, in the weights' file
CARD = """---
license: {license}
library_name: coma_mm
pipeline_tag: image-feature-extraction
tags:
- coma_mm
- {family}
- masked-image-modeling
- openmmlab
---

# {title}

The weights of a backbone, {parameters:.1f} M parameters, written by `tools/export.py` of
[coma_mm](https://arxiv.org/abs/2511.05929) {version}. Trained for {epochs} epochs by a config whose hash is `{config}`.
The author has to add the training data and the results.

| | |
|---|---|
| images | `(B, {channels}, H, W)`, {order}, {normalised} |
| maps | {maps} |

```python
import coma_mm

backbone = coma_mm.load_backbone('hf://USER/NAME', out_indices=(0, 1, 2, 3)).eval()
```

In a config of mmpretrain, MMDetection or MMSegmentation, on the backbone:

```python
init_cfg = dict(type='coma_mm.Pretrained', checkpoint='hf://USER/NAME')
```
"""
TIMM = """
In timm:

```python
import coma_mm.timm
import timm

model = timm.create_model('hf-hub:USER/NAME', pretrained=True, features_only=True)
```
"""


def write_hub_folder(
    folder: str, backbone: nn.Module, meta: dict[str, str], license: str, write: Callable[[str], None]
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``, all of them or none.

    Args:
        folder: New, or empty.
        meta: Of an exported file: strings, some of them JSON.
        license: The hub's name of a licence.
        write: Writes the weights to a path.
    """
    config: dict[str, Any] = dict(
        library_name='coma_mm',
        backbone=json.loads(meta['backbone']),
        **{name: json.loads(meta[name]) for name in IMAGE_KEYS if name in meta},
        **{name: meta[name] for name in ('epochs', 'iterations', 'config_sha256', 'coma_mm')},
    )
    for_timm = describe_for_timm(backbone, config)
    strides, channels = (getattr(backbone, name, None) for name in ('strides', 'out_channels'))
    mean, std = config.get('mean'), config.get('std')
    values = (
        f'values {config["value_range"][0]} to {config["value_range"][1]} of deep files as '
        if config.get('value_range')
        else ''
    )
    card = CARD.format(
        license=license,
        family=type(backbone).__name__.lower(),
        title=f'{type(backbone).__name__}, {for_timm.get("architecture", _plain(meta["arch"]))}',
        parameters=sum(parameter.numel() for parameter in backbone.parameters()) / 1e6,
        version=meta['coma_mm'],
        epochs=_plain(meta['epochs']),
        config=_plain(meta['config_sha256']),
        channels=config['backbone'].get('in_channels', 3),
        order=_plain(config.get('channel_order', 'channels in the order of training')),
        normalised=f'{values}0 to 255, less {mean}, over {std}' if mean and std else 'normalised as in training',
        maps=f'strides {list(strides)}, channels {list(channels)}' if strides and channels else 'those of the backbone',
    )
    with whole_folder(folder) as unfinished:
        write(str(unfinished / HUB_FILE))
        Path(unfinished, 'config.json').write_text(json.dumps(config | for_timm, indent=2) + '\n')
        Path(unfinished, 'README.md').write_text(card + (TIMM if for_timm else ''))


def _plain(text: object) -> str:
    """Return text of a file for a page of Markdown, on which it is no HTML, link, table or code."""
    text = one_line(text)[:200].replace('`', "'")
    return re.sub(r'([\\*_\[\]|#!])', r'\\\1', escape(text, quote=False))


def describe_for_timm(backbone: nn.Module, config: dict) -> dict:
    """Return what timm looks for in ``config.json``; empty for backbones that :mod:`coma_mm.timm` has no name for."""
    settings = getattr(backbone, 'settings', {})
    names = [name for name, arch in ARCHITECTURES.items() if settings.get('arch') == arch]
    if type(backbone).__name__ != 'DyViT' or not names:
        return {}
    given = config['backbone']
    arguments = {name: value for name, value in settings.items() if name not in ('arch', 'in_channels')}
    arguments |= {name: given[name] for name in ('attn_window', 'global_blocks', 'global_window') if name in given}
    channels, side = backbone.in_channels, list(backbone.img_size)
    known = [name for name in ('mean', 'std') if len(config.get(name) or ()) == channels]
    of_images = {name: [value / 255 for value in config[name]] for name in known}
    return dict(
        architecture=f'dyvit_{names[0]}',
        num_classes=0,
        num_features=backbone.num_features,
        model_args=dict(in_chans=channels, **arguments),
        pretrained_cfg=dict(
            num_classes=0,
            input_size=[channels, *side],
            pool_size=[-(-length // backbone.unit_size) for length in side],
            interpolation='bicubic',
            classifier='head.fc',
            **of_images,
        ),
    )
