"""Everything between a config and a run: its runner, checks, optimizers and hooks."""

from ..checkpoints.pretrained import load_exactly
from .checks.data import CheckClassesHook, CheckDataHook
from .hooks.knn import KNNHook, KNNLoop
from .hooks.mistakes import MistakesHook
from .hooks.pictures import FeaturesHook, ReconstructionHook
from .hooks.progress import FinishedHook, ProgressHook
from .hooks.quality import QualityHook
from .hooks.report import ReportHook
from .optimizers.autocast import AutocastOptimWrapper
from .optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from .runner.budget import BudgetHook
from .runner.checkpoint_hooks import BackboneSettingsHook, ExactCheckpointHook, RunStateHook, WholeCheckpointHook
from .runner.earlier_results import ReplaceResultsHook
from .runner.epoch_seed import EpochSeedHook
from .runner.failures import SpareRunHook
from .runner.log_values import DataTimeHook, DeferredRuntimeInfoHook, LoadTimerHook
from .runner.loops import EpochLoop, IterLoop
from .runner.run_folder import ConfigHook
from .runner.schedule import ScheduleHook
from .runner.step_checkpoint import RunInterrupted, StepCheckpointHook
from .runner.stop_on_nan import StopOnNaNHook

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
    'LoadTimerHook',
    'MistakesHook',
    'ProgressHook',
    'QualityHook',
    'ReconstructionHook',
    'ReplaceResultsHook',
    'ReportHook',
    'RunInterrupted',
    'RunStateHook',
    'ScheduleHook',
    'SpareRunHook',
    'StepCheckpointHook',
    'StopOnNaNHook',
    'WholeCheckpointHook',
    'load_exactly',
]
