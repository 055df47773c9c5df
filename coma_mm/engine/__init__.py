from .checkpoint import load_exactly
from .checks import CheckClassesHook, CheckDataHook
from .hooks import (
    BackboneSettingsHook,
    DataTimeHook,
    DeferredRuntimeInfoHook,
    EpochSeedHook,
    ExactCheckpointHook,
    FinishedHook,
    KNNHook,
    ReconstructionHook,
    ScheduleHook,
    StopOnNaNHook,
    WholeCheckpointHook,
)
from .knn_loop import KNNLoop
from .optim import AutocastOptimWrapper, LayerDecayOptimWrapperConstructor

__all__ = [
    'AutocastOptimWrapper',
    'BackboneSettingsHook',
    'CheckClassesHook',
    'CheckDataHook',
    'DataTimeHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'ExactCheckpointHook',
    'FinishedHook',
    'KNNHook',
    'KNNLoop',
    'LayerDecayOptimWrapperConstructor',
    'ReconstructionHook',
    'ScheduleHook',
    'StopOnNaNHook',
    'WholeCheckpointHook',
    'load_exactly',
]
