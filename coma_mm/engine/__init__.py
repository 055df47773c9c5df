from .check_classes_hook import CheckClassesHook
from .check_data_hook import CheckDataHook
from .checkpoint import BackboneSettingsHook, ExactCheckpointHook, load_exactly
from .data_time_hook import DataTimeHook
from .deferred_runtime_info_hook import DeferredRuntimeInfoHook
from .epoch_seed_hook import EpochSeedHook
from .finished_hook import FinishedHook
from .knn_hook import KNNHook
from .knn_loop import KNNLoop
from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim import AutocastOptimWrapper
from .reconstruction_hook import ReconstructionHook
from .stop_on_nan_hook import StopOnNaNHook
from .whole_checkpoints import WholeCheckpointHook

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
    'StopOnNaNHook',
    'WholeCheckpointHook',
    'load_exactly',
]
