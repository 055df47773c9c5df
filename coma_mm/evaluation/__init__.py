from .features import ImageFiles, extract_features
from .few_labels import FewLabels
from .knn import KNN, NearestNeighbours, collect_features
from .reconstruction import Reconstructions, mean_colour_baseline, psnr, reconstruct_images
from .ridge import LinearProbe, draw_labelled
from .validator import Validator, dead_channels, load_images, rankme

__all__ = [
    'FewLabels',
    'ImageFiles',
    'KNN',
    'LinearProbe',
    'NearestNeighbours',
    'Reconstructions',
    'Validator',
    'collect_features',
    'dead_channels',
    'draw_labelled',
    'extract_features',
    'load_images',
    'mean_colour_baseline',
    'psnr',
    'rankme',
    'reconstruct_images',
]
