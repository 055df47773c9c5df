"""Hooks of mmengine's runner, one file for each concern."""

from .budget import BudgetHook
from .checkpoints import BackboneSettingsHook, ExactCheckpointHook, RunStateHook, WholeCheckpointHook
from .config import ConfigHook
from .data_time import DataTimeHook
from .deferred_runtime_info import DeferredRuntimeInfoHook
from .epoch_seed import EpochSeedHook
from .features import FeaturesHook
from .finished import FinishedHook
from .knn import KNNHook
from .progress import ProgressHook
from .quality import QualityHook
from .reconstruction import ReconstructionHook
from .report import ReportHook
from .schedule import ScheduleHook
from .step_checkpoint import RunInterrupted, StepCheckpointHook
from .stop_on_nan import StopOnNaNHook

__all__ = [
    'BackboneSettingsHook',
    'BudgetHook',
    'ConfigHook',
    'DataTimeHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'ExactCheckpointHook',
    'FeaturesHook',
    'FinishedHook',
    'KNNHook',
    'ProgressHook',
    'QualityHook',
    'ReconstructionHook',
    'ReportHook',
    'RunInterrupted',
    'RunStateHook',
    'ScheduleHook',
    'StepCheckpointHook',
    'StopOnNaNHook',
    'WholeCheckpointHook',
]
