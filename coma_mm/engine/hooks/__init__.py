"""Hooks of mmengine's runner, one file for each concern."""

from .checkpoints import BackboneSettingsHook, ExactCheckpointHook, WholeCheckpointHook
from .data_time import DataTimeHook
from .deferred_runtime_info import DeferredRuntimeInfoHook
from .epoch_seed import EpochSeedHook
from .finished import FinishedHook
from .knn import KNNHook
from .reconstruction import ReconstructionHook
from .schedule import ScheduleHook
from .step_checkpoint import RunInterrupted, StepCheckpointHook
from .stop_on_nan import StopOnNaNHook

__all__ = [
    'BackboneSettingsHook',
    'DataTimeHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'ExactCheckpointHook',
    'FinishedHook',
    'KNNHook',
    'ReconstructionHook',
    'RunInterrupted',
    'ScheduleHook',
    'StepCheckpointHook',
    'StopOnNaNHook',
    'WholeCheckpointHook',
]
