"""Checkpoints that do not fit the model are errors, not warnings that scroll by."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from ..registry import HOOKS


def load_exactly(model: nn.Module, checkpoint: dict, source: str = 'the checkpoint') -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        model: Without wrappers.
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What the error calls the checkpoint.

    Raises:
        ValueError: If they do not fit, with the first differences.
    """
    state_dict = checkpoint.get('state_dict', checkpoint)
    state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    shapes, missing, unexpected = [], [], []
    try:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    except RuntimeError:  # torch reports other shapes this way, at length
        own = model.state_dict()
        shapes = [
            f'{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in state_dict and state_dict[key].shape != own[key].shape
        ]
        if not shapes:
            raise
    # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    unexpected = [key for key in unexpected if not key.startswith('data_preprocessor.')]
    differences = [
        f'{len(found)} {what}: {", ".join(found[:2])}{", ..." if len(found) > 2 else ""}'
        for what, found in (
            ('of other shapes', shapes),
            ('missing in the checkpoint', missing),
            ('unknown to the model', unexpected),
        )
        if found
    ]
    if differences:
        raise ValueError(
            f'{source} does not fit the model {type(model).__name__} of this config; is it of another architecture? '
            f'Weights {"; ".join(differences)}'
        )


@HOOKS.register_module()
class ExactCheckpointHook(Hook):
    """Makes the runner stop on a checkpoint that does not fit, where it would warn and go on.

    ``tools/test.py`` adds it, and ``tools/train.py --resume``. Not meant for fine-tuning, which loads a part only.
    """

    priority = 'LOWEST'  # after hooks that exchange weights, such as EMAHook

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Try the checkpoint."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        load_exactly(model, checkpoint)
