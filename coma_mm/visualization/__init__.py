from .features import Features, compute_features, draw_features, draw_neighbours, principal_colours
from .reconstruction import draw_reconstructions

__all__ = [
    'Features',
    'compute_features',
    'draw_features',
    'draw_neighbours',
    'draw_reconstructions',
    'principal_colours',
]
