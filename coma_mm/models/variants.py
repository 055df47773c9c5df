"""DyViT without a config: by name, or from a file that says which one it holds."""

from pathlib import Path
from typing import Any

from ..checkpoints.bounded_building import bounded_building
from ..checkpoints.pretrained import load_backbone as load_into
from ..checkpoints.reading import get_state_dict, read_checkpoint
from ..checkpoints.settings import NO_SETTINGS, read_settings
from ..utils.configs import type_name
from .architectures import ARCHITECTURES
from .dyvit import DyViT


def list_archs() -> list[str]:
    """Return the architectures that ``DyViT(arch)`` knows by name, the smallest first."""
    return list(ARCHITECTURES)


def load_backbone(path: str | Path, **options: Any) -> DyViT:
    """Build the DyViT that a file holds, with the settings that the file carries, and load its weights.

    Args:
        path: the folder of a finished ``coma-mm pretrain``, a checkpoint, a file or folder of ``coma-mm export``, or
            ``hf://user/repository``: whatever :func:`.checkpoints.reading.read_checkpoint` reads. No code in it is run.
        **options: arguments of :class:`.DyViT` in place of those in the file: ``out_indices``, ``attn_window``, ...

    Returns:
        The backbone in eval mode, all of its weights loaded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, does not say which DyViT it holds, or holds something else.
    """
    checkpoint = read_checkpoint(path)
    settings = read_settings(checkpoint)
    if settings is None:
        raise ValueError(
            f'{path} does not say which backbone it holds; build it yourself and use '
            'coma_mm.models.load_backbone(backbone, read_checkpoint(path), path)'
        )
    kind = str(settings.get('type'))
    if type_name(kind) != 'DyViT':
        raise ValueError(f'{path} holds a {kind}, not a DyViT')
    arguments = {name: value for name, value in settings.items() if name not in NO_SETTINGS} | options
    try:
        with bounded_building(get_state_dict(checkpoint), arguments):
            backbone = DyViT(**arguments)
    except Exception as error:  # what stands in a file can be wrong in any way
        raise ValueError(
            f'{path} and the options given name settings that DyViT does not take ({error}); was it written by '
            'another version of coma_mm?'
        ) from None
    load_into(backbone, checkpoint, str(path))
    return backbone.eval()


def dyvit_pico(**options: Any) -> DyViT:
    """Build DyViT-P; ``options`` are those of :class:`.DyViT`."""
    return _build('pico', options)


def dyvit_tiny(**options: Any) -> DyViT:
    """Build DyViT-T; ``options`` are those of :class:`.DyViT`."""
    return _build('tiny', options)


def dyvit_small(**options: Any) -> DyViT:
    """Build DyViT-S; ``options`` are those of :class:`.DyViT`."""
    return _build('small', options)


def dyvit_base(**options: Any) -> DyViT:
    """Build DyViT-B; ``options`` are those of :class:`.DyViT`."""
    return _build('base', options)


def dyvit_large(**options: Any) -> DyViT:
    """Build DyViT-L; ``options`` are those of :class:`.DyViT`."""
    return _build('large', options)


def _build(arch: str, options: dict) -> DyViT:
    """Build a DyViT, and load the weights that ``pretrained`` or ``init_cfg`` names."""
    pretrained = None if options.get('init_cfg') else options.pop('pretrained', None)
    backbone = DyViT(arch, **options)
    if pretrained:
        load_into(backbone, read_checkpoint(pretrained), str(pretrained))
    elif backbone.init_cfg:  # as a runner would, which logs each weight
        backbone.init_weights()
    return backbone
