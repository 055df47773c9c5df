from .knn import KNN, NearestNeighbours, collect_features
from .reconstruction import mean_colour_baseline, psnr

__all__ = ['KNN', 'NearestNeighbours', 'collect_features', 'mean_colour_baseline', 'psnr']
