"""Modes of the evaluation branch: the options of each, and the second model or the loss that it needs."""

from typing import Any

from mmengine.model import BaseAveragedModel, ExponentialMovingAverage
from torch import Tensor, nn

from ..utils.arguments import did_you_mean, require_number, require_whole
from .alignment import Alignment
from .distillation import Distillation, build_distillation

MODES = ('copy', 'ema', 'off', 'align', 'frozen')
ONE_BRANCH = ('off', 'align', 'frozen')  # modes in which the adaptive branch alone is decoded
MODE_OPTIONS = dict(align=('weight', 'jitter'), frozen=('encoder', 'weight', 'mean', 'std'))  # options of a mode
OPTIONS = tuple(dict.fromkeys(('mode', 'interval', 'momentum', *MODE_OPTIONS['align'], *MODE_OPTIONS['frozen'])))


class PeriodicCopy(BaseAveragedModel):
    """A second model that takes over the first one's weights every ``interval`` updates."""

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        averaged_param.copy_(source_param)


def build_evaluation(
    model: nn.Module, options: dict[str, Any]
) -> tuple[str, BaseAveragedModel | None, Alignment | None, Distillation | None]:
    """Check the options of ``evaluation``, and build what its mode needs.

    Args:
        model: a :class:`.CoMA` with backbone and decoder.
        options: its ``evaluation``.

    Returns:
        The mode, and a second model, an :class:`.Alignment` and a :class:`.Distillation` where it needs them.

    Raises:
        ValueError: on an unknown mode or option, one of another mode, or a value that cannot be.
    """
    for name in set(options) - set(OPTIONS):
        raise ValueError(f'evaluation has the options {", ".join(OPTIONS)}, not {name!r}{did_you_mean(name, OPTIONS)}')
    mode, interval, momentum = options.get('mode', 'copy'), options.get('interval', 1), options.get('momentum')
    if mode not in MODES:
        raise ValueError(f'evaluation mode must be one of {", ".join(MODES)}, got {mode!r}{did_you_mean(mode, MODES)}')
    own = {name: options[name] for name in options if name not in ('mode', 'interval', 'momentum')}
    if wrong := [name for name in own if name not in MODE_OPTIONS.get(mode, ())]:
        takers = ' or '.join(repr(one) for one, names in MODE_OPTIONS.items() if set(wrong) <= set(names))
        raise ValueError(f'evaluation {", ".join(wrong)} goes with mode={takers} only, not with {mode!r}')
    alignment = Alignment(model.backbone.unit_channels[-1], **own) if mode == 'align' else None
    _check_updates(mode, interval, momentum)
    distillation = build_distillation(model, **own) if mode == 'frozen' else None
    second = None
    if mode == 'ema' or momentum is not None:
        second = ExponentialMovingAverage(model.backbone, 0.004 if momentum is None else momentum, interval).eval()
    elif interval > 1:
        second = PeriodicCopy(model.backbone, interval).eval()
    return mode, second, alignment, distillation


def _check_updates(mode: str, interval: int, momentum: float | None) -> None:
    """Refuse an interval or a momentum where the mode has no second model to update."""
    require_whole(1, **{'evaluation interval': interval})
    if momentum is not None:
        require_number('(0, 1)', **{'evaluation momentum': momentum})
    if interval > 1 and mode in ('off', 'frozen'):
        raise ValueError(f'evaluation interval {interval} goes with copy, ema and align only, not with {mode!r}')
    if momentum is not None and mode not in ('ema', 'align'):
        raise ValueError(f"evaluation momentum goes with mode='ema' or 'align' only, got {momentum} for {mode!r}")
