from .knn import extract_features, knn_accuracy, standardize
from .reconstruction import mean_colour_baseline, psnr

__all__ = ['extract_features', 'knn_accuracy', 'mean_colour_baseline', 'psnr', 'standardize']
