"""CoMA and DyViT for the OpenMMLab toolboxes. Importing the package imports neither torch nor any toolbox."""

from importlib import import_module

from .version import __version__

# Public names and the modules they live in, imported on first use. mmengine's registries look here as well, which is
# how type='coma_mm.MaskedViT' is found: no other module of ours imports the file that needs mmpretrain.
_LAZY = {
    'CoMA': 'coma_mm.models',
    'DyViT': 'coma_mm.models',
    'MaskedViT': 'coma_mm.models.vit',
    'pretrain': 'coma_mm.pretraining',
}

__all__ = ['CoMA', 'DyViT', 'MaskedViT', '__version__', 'pretrain']


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
