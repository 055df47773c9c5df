"""Hooks that look at pre-training, one file for each concern."""

from .features import FeaturesHook
from .knn import KNNHook
from .progress import ProgressHook
from .quality import QualityHook
from .reconstruction import ReconstructionHook
from .report import ReportHook

__all__ = ['FeaturesHook', 'KNNHook', 'ProgressHook', 'QualityHook', 'ReconstructionHook', 'ReportHook']
