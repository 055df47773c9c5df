from .held_out import HeldOut, load_images
from .knn import KNN, NearestNeighbours, collect_features
from .linear_probe import LinearProbe
from .rankme import dead_channels, rankme
from .reconstruction import Reconstructions, mean_colour_baseline, psnr, reconstruct_images

__all__ = [
    'HeldOut',
    'KNN',
    'LinearProbe',
    'NearestNeighbours',
    'Reconstructions',
    'collect_features',
    'dead_channels',
    'load_images',
    'mean_colour_baseline',
    'psnr',
    'rankme',
    'reconstruct_images',
]
