"""Hooks that evaluate and visualize a model while it trains, one file for each concern."""

from .features import FeaturesHook
from .knn import KNNHook
from .mistakes import MistakesHook
from .progress import ProgressHook
from .quality import QualityHook
from .reconstruction import ReconstructionHook
from .report import ReportHook

__all__ = [
    'FeaturesHook',
    'KNNHook',
    'MistakesHook',
    'ProgressHook',
    'QualityHook',
    'ReconstructionHook',
    'ReportHook',
]
