from .checkpoint import load_exactly
from .checks import CheckClassesHook, CheckDataHook
from .failures import SpareRunHook
from .hooks import (
    BackboneSettingsHook,
    BudgetHook,
    ConfigHook,
    DataTimeHook,
    DeferredRuntimeInfoHook,
    EpochSeedHook,
    ExactCheckpointHook,
    FeaturesHook,
    FinishedHook,
    KNNHook,
    ProgressHook,
    QualityHook,
    ReconstructionHook,
    ReportHook,
    RunInterrupted,
    ScheduleHook,
    StepCheckpointHook,
    StopOnNaNHook,
    WholeCheckpointHook,
)
from .knn_loop import KNNLoop
from .loops import EpochLoop, IterLoop
from .optim import AutocastOptimWrapper, LayerDecayOptimWrapperConstructor
from .work_dir import ReplaceResultsHook

__all__ = [
    'AutocastOptimWrapper',
    'BackboneSettingsHook',
    'BudgetHook',
    'CheckClassesHook',
    'CheckDataHook',
    'ConfigHook',
    'DataTimeHook',
    'DeferredRuntimeInfoHook',
    'EpochLoop',
    'EpochSeedHook',
    'ExactCheckpointHook',
    'FeaturesHook',
    'FinishedHook',
    'IterLoop',
    'KNNHook',
    'KNNLoop',
    'LayerDecayOptimWrapperConstructor',
    'ProgressHook',
    'QualityHook',
    'ReconstructionHook',
    'ReplaceResultsHook',
    'ReportHook',
    'RunInterrupted',
    'ScheduleHook',
    'SpareRunHook',
    'StepCheckpointHook',
    'StopOnNaNHook',
    'WholeCheckpointHook',
    'load_exactly',
]
