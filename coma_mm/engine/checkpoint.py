"""Checkpoints that do not fit the model are errors, not warnings that scroll by; and none of them runs code."""

import json

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.runner import CheckpointLoader
from torch import nn

from ..models.pretrained import check_settings, get_state_dict, load_weights, read_checkpoint
from ..registry import HOOKS
from .wrappers import unwrap


def read_checkpoints_safely() -> None:
    """Have all checkpoints that mmengine loads in this process, of whatever address, read without running code."""
    for scheme, loader in list(CheckpointLoader._schemes.items()):
        if loader.__module__ == 'mmengine.runner.checkpoint':  # and not those that a user has registered
            CheckpointLoader.register_scheme(scheme, read_checkpoint, force=True)


def load_exactly(model: nn.Module, checkpoint: dict, source: str = 'the checkpoint') -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        model: Without wrappers.
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What the error calls the checkpoint.

    Raises:
        ValueError: If they do not fit, with the first differences, or were trained with other settings of the backbone.
    """
    # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
    load_weights(
        model,
        get_state_dict(checkpoint),
        source,
        lambda key: key.startswith('data_preprocessor.') or key.endswith('num_batches_tracked'),
    )
    if hasattr(model, 'backbone'):
        check_settings(model.backbone, checkpoint, source)


@HOOKS.register_module()
class ExactCheckpointHook(Hook):
    """Makes the runner stop on a checkpoint that does not fit, where it would warn and go on.

    ``tools/test.py`` adds it, and ``tools/train.py --resume``. Not meant for fine-tuning, which loads a part only.
    """

    priority = 'VERY_LOW'  # after hooks that exchange weights, such as EMAHook

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Try the checkpoint."""
        model = _plain_model(runner)
        if hasattr(model, 'load_backbone'):  # it takes the backbone of any checkpoint
            model.load_backbone(checkpoint, 'the checkpoint')
            checkpoint['state_dict'] = model.state_dict()  # what the runner will load after this hook
        else:
            load_exactly(model, checkpoint)


@HOOKS.register_module()
class BackboneSettingsHook(Hook):
    """Writes the backbone's settings into checkpoints, and compares them when one is loaded.

    ``meta['backbone']`` is a JSON object of the arguments of the backbone's constructor: as the config gives them, with
    those of the backbone's ``settings`` filled in, which later versions may have other defaults for. ``meta['scope']``
    is the default scope that its type is meant in. ``tools/train.py`` and ``tools/test.py`` add this hook.
    """

    priority = 'LOWEST'  # after ExactCheckpointHook: other shapes say more

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write."""
        arguments, model = (runner.cfg.get('model') or {}).get('backbone'), _plain_model(runner)
        if not isinstance(arguments, dict) or not hasattr(model, 'backbone'):
            return
        try:
            settings = describe_backbone(arguments, model.backbone)
        except TypeError:  # a config of Python objects, which is no plain data
            return
        checkpoint['meta'].update(backbone=settings, scope=runner.cfg.get('default_scope') or 'mmengine')

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare.

        Raises:
            ValueError: If a setting differs that changes what the weights compute.
        """
        model = _plain_model(runner)
        if hasattr(model, 'backbone'):
            check_settings(model.backbone, checkpoint, 'the checkpoint')


def describe_backbone(arguments: dict, backbone: nn.Module) -> str:
    """Return the arguments of a backbone's constructor as JSON, defaults filled in where the backbone tells them.

    Raises:
        TypeError: If they are no plain data.
    """
    plain = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained')}
    return json.dumps(plain | (getattr(backbone, 'settings', None) or {}))


def _plain_model(runner) -> nn.Module:
    """Return a runner's model without what distributed training and test-time augmentation wrap it in."""
    model = unwrap(runner.model)
    return model.module if isinstance(model, BaseTTAModel) else model
