"""CoMA and DyViT for the OpenMMLab toolboxes. Importing the package imports neither torch nor any toolbox."""

from .version import __version__

__all__ = ['__version__']
