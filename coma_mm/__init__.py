"""CoMA and DyViT for the OpenMMLab toolboxes. Importing the package imports neither torch nor any toolbox."""

from importlib import import_module
from typing import Any

from .version import __version__

# Public names and the modules they live in, imported on first use. mmengine's registries look here as well, which is
# how type='coma_mm.MaskedViT' is found: no other module of ours imports the files that need mmpretrain or timm.
_LAZY = {
    'CoMA': 'coma_mm.models',
    'DyViT': 'coma_mm.models',
    'MaskedHiera': 'coma_mm.models.masked_hiera',
    'MaskedViT': 'coma_mm.models.masked_vit',
    'Pretrained': 'coma_mm.models',
    'compare': 'coma_mm.comparing',
    'dyvit_base': 'coma_mm.models.variants',
    'dyvit_large': 'coma_mm.models.variants',
    'dyvit_pico': 'coma_mm.models.variants',
    'dyvit_small': 'coma_mm.models.variants',
    'dyvit_tiny': 'coma_mm.models.variants',
    'finetune': 'coma_mm.finetuning',
    'list_archs': 'coma_mm.models.variants',
    'load_backbone': 'coma_mm.models.variants',
    'pretrain': 'coma_mm.pretraining',
}

__all__ = ['__version__', *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
