from .features import ImageFiles, extract_features
from .few_labels import FewLabels
from .knn import KNN, NearestNeighbours, collect_features
from .rankme import dead_channels, rankme
from .reconstruction import Reconstructions, mean_colour_baseline, psnr, reconstruct_images
from .ridge import LinearProbe, draw_labelled
from .validator import Validator, load_images

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
