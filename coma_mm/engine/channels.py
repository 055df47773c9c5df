"""What a backbone returns against what the parts behind it were told, before the first image."""

from collections.abc import Sequence

from torch import nn


def check_channels(model: nn.Module) -> None:
    """Compare a backbone's ``out_channels`` with ``in_channels`` of the neck, or without a neck of the heads.

    Args:
        model: Of mmpretrain, mmdet or mmseg. Backbones that do not state ``out_channels`` are not checked.

    Raises:
        ValueError: If they differ, with the numbers to write.
    """
    backbone = getattr(model, 'backbone', None)
    channels = getattr(backbone, 'out_channels', None)
    if not isinstance(channels, tuple):
        return
    neck = getattr(model, 'neck', None) if getattr(model, 'with_neck', True) else None
    expected = getattr(neck, 'in_channels', None)
    if isinstance(expected, (list, tuple)):  # a pyramid takes all maps, a classifier's pooling has no such attribute
        _compare(backbone, 'neck', expected, channels)
    if neck is not None and next(neck.parameters(), None) is not None:  # one that only pools keeps the channels
        return
    for name in ('decode_head', 'auxiliary_head', 'head'):
        head = getattr(model, name, None)
        for number, part in enumerate(head if isinstance(head, nn.ModuleList) else [head]):
            expected = getattr(part, 'in_channels', None)
            if expected is None:
                continue
            place = f'{name}[{number}]' if isinstance(head, nn.ModuleList) else name
            index = getattr(part, 'in_index', -1)
            indices = index if isinstance(index, Sequence) else [index]
            if any(i >= len(channels) for i in indices):
                raise ValueError(
                    f'model.{place}.in_index={index} asks for more maps than the {len(channels)} that '
                    f'{_describe(backbone)} returns; set model.backbone.out_indices=(0,1,2,3)'
                )
            taken = [channels[i] for i in indices]
            if isinstance(expected, (list, tuple)):
                _compare(backbone, place, expected, taken)
            else:  # several maps side by side
                _compare(backbone, place, expected, sum(taken))


def _compare(backbone: nn.Module, place: str, expected, actual) -> None:
    if not isinstance(expected, int):
        expected, actual = list(expected), list(actual)
    if expected != actual:
        raise ValueError(
            f'model.{place}.in_channels={expected} does not fit {_describe(backbone)}, which returns {actual}; '
            f'set model.{place}.in_channels={actual}'
        )


def _describe(backbone: nn.Module) -> str:
    return f'{type(backbone).__name__}(out_indices={tuple(getattr(backbone, "out_indices", ()))})'
