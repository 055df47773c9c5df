"""Channels of backbones, necks and heads that do not fit are an error before the first step."""

from collections.abc import Sequence
from typing import Any, NoReturn

from torch import nn

from ...utils.arguments import did_you_mean


def check_modules(model: nn.Module, optim_wrapper: dict) -> None:
    """Refuse names of modules to autocast that the model does not have, of one optimizer or of several by name."""
    known = [name for name, _ in model.named_modules() if name]
    wrappers = {'optim_wrapper': optim_wrapper} | {f'optim_wrapper.{key}': x for key, x in optim_wrapper.items()}
    for place, wrapper in wrappers.items():
        for name in (wrapper.get('modules') or ()) if isinstance(wrapper, dict) else ():
            if name not in known:
                raise ValueError(
                    f'{place}.modules names {name!r}, which {type(model).__name__} does not have'
                    f'{did_you_mean(name, known)}; without {place}.modules the whole model is autocast'
                )


def check_channels(model: nn.Module) -> None:
    """Refuse a neck, or without one heads, whose ``in_channels`` are not the backbone's ``out_channels``.

    Args:
        model: Model of mmpretrain, mmdet or mmseg; also one that contains others, as semi-supervised detectors and
            trackers do. Backbones that do not state ``out_channels`` are not checked.
    """
    for name, module in model.named_modules():
        # A semi-supervised detector builds its student, and its teacher, from the setting `detector`.
        path = ['model', *('detector' if part == 'student' else part for part in name.split('.') if part)]
        place = '.'.join(path)
        # An image retriever keeps in one list the backbone and what pools its maps.
        names = ('backbone', 'neck') if hasattr(module, 'backbone') else ('image_encoder',)
        encoder = _parts(module, place, *names)
        if encoder and isinstance(getattr(encoder[0][1], 'out_channels', None), tuple):
            (backbone_place, backbone), *necks = encoder
            heads = _parts(module, place, 'decode_head', 'auxiliary_head', 'panoptic_head', 'head')
            _check(_Maps(backbone_place, backbone), necks, heads)


class _Maps:
    """The maps of a backbone, and what to set if they are not those that a neck or head was told of."""

    def __init__(self, place: str, backbone: nn.Module):
        self.place = place
        self.channels = list(backbone.out_channels)
        self.out_indices = list(getattr(backbone, 'out_indices', range(len(self.channels))))
        self.name = f'{type(backbone).__name__}(out_indices={tuple(self.out_indices)})'

    def compare(self, place: str, expected: int | list[int], actual: int | list[int], advice: dict) -> None:
        """Raise, with the advice, unless a part expects what it gets."""
        if expected != actual:
            self.fail(f'{place}.in_channels={expected} does not fit {self.name}, which returns {actual}', advice)

    def compare_all(self, place: str, expected: list[int], start_level: int) -> None:
        """Raise unless a part that takes all maps expects these; it reads those from ``start_level`` on."""
        count = len(expected) - start_level
        stages = self.out_indices[-1] + 1
        if len(self.channels) < count <= stages:  # once there are as many maps, the next error has their channels
            advice: dict[str, int | list[int]] = {f'{self.place}.out_indices': [*range(stages - count, stages)]}
        else:
            advice = {f'{place}.in_channels': self.channels[-count:]}
            if len(self.channels) > count:
                advice[f'{self.place}.out_indices'] = self.out_indices[-count:]
            if start_level:  # a map that nothing reads has a norm without gradient
                advice[f'{place}.start_level'] = 0
        self.compare(place, expected, self.channels, advice)

    def fail(self, what: str, advice: dict) -> NoReturn:
        settings = ' '.join(f'{key}={value}'.replace(' ', '') for key, value in advice.items())
        raise ValueError(f'{what}; set {settings}')


def _check(maps: _Maps, necks: list, heads: list) -> None:
    for place, neck in necks:
        expected = _in_channels(neck)
        if isinstance(expected, list):  # a pyramid
            maps.compare_all(place, expected, getattr(neck, 'start_level', 0))
        elif expected is not None:
            maps.compare(place, expected, maps.channels[-1], {f'{place}.in_channels': maps.channels[-1]})
        if expected is not None or any(parameter.ndim > 1 for parameter in neck.parameters()):
            return  # one that only pools keeps the channels
    for place, head in heads:
        expected = _in_channels(head)
        if expected is None:
            continue
        if place.endswith('.head') and not necks:  # of mmpretrain
            raise ValueError(
                f'{place} takes vectors, but nothing pools the maps of {maps.name}; '
                + (
                    "append dict(type='GlobalAveragePooling') to the list image_encoder"
                    if 'image_encoder' in maps.place
                    else f'set {place.removesuffix("head")}neck.type=GlobalAveragePooling'
                )
            )
        if isinstance(expected, list) and not hasattr(head, 'in_index'):
            maps.compare_all(place, expected, 0)
            continue
        index = getattr(head, 'in_index', -1)
        indices = list(index) if isinstance(index, Sequence) else [index]
        if max(indices) >= len(maps.channels):
            maps.fail(
                f'{place}.in_index={index} asks for more maps than the {len(maps.channels)} that {maps.name} returns',
                {f'{maps.place}.out_indices': [*range(max(indices) + 1)]},
            )
        taken = [maps.channels[i] for i in indices]
        setting = taken if isinstance(index, Sequence) else taken[0]
        actual = taken if isinstance(expected, list) else sum(taken)  # maps side by side: the config has a list
        maps.compare(place, expected, actual, {f'{place}.in_channels': setting})


def _parts(module: nn.Module, place: str, *names: str) -> list[tuple[str, nn.Module]]:
    """Return the children of these names, lists part by part, each with its place in the config."""
    found = []
    for name in names:
        part: Any = getattr(module, name, None)
        if isinstance(part, (nn.ModuleList, nn.Sequential)):
            found += [(f'{place}.{name}.{i}', child) for i, child in enumerate(part)]
        elif hasattr(part, 'kernel_generate_head'):  # K-Net
            found.append((f'{place}.{name}.kernel_generate_head', part.kernel_generate_head))
        elif isinstance(part, nn.Module):
            found.append((f'{place}.{name}', part))
    return found


def _in_channels(part: nn.Module) -> int | list[int] | None:
    """Return what a neck or head was told, also where only its layers remember."""
    part = getattr(part, 'pixel_decoder', part)  # of MaskFormer and Mask2Former
    channels = getattr(part, 'in_channels', None)
    if hasattr(part, 'input_convs'):  # Mask2Former's, from the last map to the first
        channels = [conv.conv.in_channels for conv in (*part.input_convs, *part.lateral_convs)][::-1]
    elif type(part).__name__ == 'ChannelMapper':
        channels = [conv.conv.in_channels for conv in part.convs]
    return list(channels) if isinstance(channels, Sequence) else channels
