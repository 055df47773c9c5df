"""Checkpoints that do not fit the model are errors, not warnings that scroll by."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from torch import nn

from ..models.pretrained import get_state_dict, load_weights
from ..registry import HOOKS
from .wrappers import unwrap


def load_exactly(model: nn.Module, checkpoint: dict, source: str = 'the checkpoint') -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        model: Without wrappers.
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What the error calls the checkpoint.

    Raises:
        ValueError: If they do not fit, with the first differences.
    """
    # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
    load_weights(
        model,
        get_state_dict(checkpoint),
        source,
        lambda key: key.startswith('data_preprocessor.') or key.endswith('num_batches_tracked'),
    )


@HOOKS.register_module()
class ExactCheckpointHook(Hook):
    """Makes the runner stop on a checkpoint that does not fit, where it would warn and go on.

    ``tools/test.py`` adds it, and ``tools/train.py --resume``. Not meant for fine-tuning, which loads a part only.
    """

    priority = 'LOWEST'  # after hooks that exchange weights, such as EMAHook

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Try the checkpoint."""
        model = unwrap(runner.model)
        model = model.module if isinstance(model, BaseTTAModel) else model
        if hasattr(model, 'load_backbone'):  # it takes the backbone of any checkpoint
            model.load_backbone(checkpoint, 'the checkpoint')
            checkpoint['state_dict'] = model.state_dict()  # what the runner will load after this hook
        else:
            load_exactly(model, checkpoint)
