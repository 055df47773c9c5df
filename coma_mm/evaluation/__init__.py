from .knn import KNN, NearestNeighbours, collect_features
from .linear_probe import LinearProbe
from .rankme import rankme
from .reconstruction import mean_colour_baseline, psnr

__all__ = ['KNN', 'LinearProbe', 'NearestNeighbours', 'collect_features', 'mean_colour_baseline', 'psnr', 'rankme']
