from .features import ImageFiles, extract_features
from .few_labels import FewLabels
from .held_out import HeldOut, load_images
from .knn import KNN, NearestNeighbours, collect_features
from .rankme import dead_channels, rankme
from .reconstruction import Reconstructions, mean_colour_baseline, psnr, reconstruct_images
from .ridge import LinearProbe, draw_labelled, mean_and_spread, probe_hits

__all__ = [
    'FewLabels',
    'HeldOut',
    'ImageFiles',
    'KNN',
    'LinearProbe',
    'NearestNeighbours',
    'Reconstructions',
    'collect_features',
    'dead_channels',
    'draw_labelled',
    'extract_features',
    'load_images',
    'mean_and_spread',
    'mean_colour_baseline',
    'probe_hits',
    'psnr',
    'rankme',
    'reconstruct_images',
]
