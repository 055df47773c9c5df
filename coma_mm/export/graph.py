"""Backbones as graphs that run without this package: ONNX, and PyTorch's own exported programs.

A graph takes normalised images ``(B, C, H, W)`` and returns the backbone's maps. B is free; H and W are those that it
was made for, or free as well (``dynamic``). It is written only after the file has been run and found to compute what
the backbone does.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.reading import get_state_dict
from ..checkpoints.settings import read_meta
from ..utils.manifest import any_file

TOLERANCE = 1e-4  # of the largest value of a map, or of 1


class Classifier(nn.Module):
    """A backbone, the mean of its last map, and a linear layer; ``(B, C, H, W)`` in, scores ``(B, classes)`` out.

    Args:
        backbone: With its weights.
        checkpoint: Of an ``ImageClassifier`` of mmpretrain with a ``LinearClsHead``.
    """

    def __init__(self, backbone: nn.Module, checkpoint: dict):
        super().__init__()
        weights = get_state_dict(checkpoint)
        if not {'head.fc.weight', 'head.fc.bias'} <= weights.keys() or weights['head.fc.weight'].dim() != 2:
            raise ValueError('the checkpoint has no linear head (head.fc) of a classifier: leave --head out')
        if learnt := next((name for name in weights if name.startswith('neck.')), None):
            raise ValueError(
                f'the classifier has a neck with weights ({learnt}), which --head cannot export: leave --head out'
            )
        self.backbone = backbone
        for name in ('unit_size', 'img_size', 'attn_window'):
            if hasattr(backbone, name):
                setattr(self, name, getattr(backbone, name))
        self.fc = nn.Linear(*weights['head.fc.weight'].shape[::-1])
        self.fc.load_state_dict({name: weights[f'head.fc.{name}'] for name in ('weight', 'bias')})
        known = read_meta(checkpoint).get('dataset_meta')
        names = known.get('classes') if isinstance(known, dict) else None
        self.classes = json.dumps([str(name) for name in names] if isinstance(names, (list, tuple)) else None)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images)
        last = maps if isinstance(maps, Tensor) else maps[-1]
        return self.fc(last.flatten(2).mean(2) if last.dim() == 4 else last)


class _Maps(nn.Module):
    """A backbone that always returns a tuple, under a name for its input."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(images)
        return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def write_graph(
    backbone: nn.Module, path: str, size: tuple[int, int], dynamic: bool, meta: dict[str, str]
) -> tuple[float, list[str]]:
    """Write a backbone as ``.onnx`` or ``.pt2``, as a whole or not at all.

    Args:
        backbone: On the CPU, in fp32.
        path: Ends in one of :data:`.GRAPHS`.
        size: Height and width of images in pixels, with ``dynamic`` those of the example.
        dynamic: Leave height and width free. In ``.pt2`` they must then be multiples of the backbone's ``unit_size``,
            and two of them at least.
        meta: What the file says of itself, beside the strides and channels of the maps: ``metadata_props`` of ONNX,
            ``meta.json`` among the extra files of ``.pt2``.

    Returns:
        The largest difference to the backbone, over the largest value of the map or 1, and the shapes it was found at.
    """
    ending = Path(path).suffix
    _check_means(ending)
    if dynamic and getattr(backbone, 'attn_window', None):
        raise ValueError('with attn_window the order of computation depends on the size: give --size, not --dynamic')
    model = _Maps(backbone).eval().requires_grad_(False)
    # not its attribute: MobileNet's has become the channels of its last stage
    channels = json.loads(meta.get('backbone', '{}')).get('in_channels', 3)
    unit = getattr(backbone, 'unit_size', None)
    example = torch.randn(2, channels, *size)  # of two: exporters take one for a constant
    with torch.no_grad():
        maps = model(example)
    meta = meta | dict(layout='NCHW', size='dynamic' if dynamic else json.dumps(list(size)))
    meta |= dict(classes=backbone.classes) if isinstance(backbone, Classifier) else _describe_maps(maps, size)
    Dim = torch.export.Dim
    sides = (Dim.DYNAMIC, Dim.DYNAMIC)
    if unit and ending == '.pt2':  # which is strict about what it was traced for
        sides = tuple(unit * Dim(name, min=2) for name in ('units_high', 'units_wide'))
    shapes = {0: Dim.DYNAMIC, **(dict(zip((2, 3), sides)) if dynamic else {})}
    more = (unit or 32) + (3 if ending == '.onnx' else 0)
    second = (size[0] + more, size[1] + 2 * more) if dynamic else size
    inputs = [example, torch.randn(1, channels, *second), torch.randn(3, channels, *second)]

    write = _write_onnx if ending == '.onnx' else _write_program
    with any_file(path) as unfinished:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about the insides of torch
            try:
                run = write(model, example, shapes, unfinished, meta)
            except Exception as error:  # of torch and onnxscript: whatever they stumble over
                first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ValueError(
                    f'{type(backbone).__name__} cannot be written as {ending} with these options: {first}'
                ) from error
            difference = max(_compare(model(images), run(images)) for images in inputs)
        if not difference <= TOLERANCE:
            raise ValueError(f'{path} would differ from the model by {difference:.2g} of its values: it is not written')
    return difference, [' x '.join(map(str, images.shape)) for images in inputs]


def _describe_maps(maps: Sequence[Tensor], size: tuple[int, int]) -> dict[str, str]:
    strides = [round(size[0] / image_map.shape[2]) for image_map in maps]
    return dict(strides=json.dumps(strides), out_channels=json.dumps([image_map.shape[1] for image_map in maps]))


def _check_means(ending: str) -> None:
    """Say what is missing before anything is computed."""
    if not hasattr(getattr(getattr(torch, 'export', None), 'Dim', None), 'DYNAMIC'):
        raise ValueError(f'writing {ending} takes torch 2.6 or newer, and this is {torch.__version__}')
    missing = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if find_spec(name) is None]
    if ending == '.onnx' and missing:
        raise ValueError(f"writing {ending} takes {', '.join(missing)}: pip install 'coma_mm[onnx]'")


def _write_onnx(
    model: _Maps, example: Tensor, shapes: dict, path: Path, meta: dict[str, str]
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Write; return what runs the file."""
    import onnxruntime

    count = len(model(example))
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        dynamic_shapes=(shapes,),
        input_names=['images'],
        output_names=['scores'] if isinstance(model.backbone, Classifier) else [f'map{i}' for i in range(count)],
        verbose=False,
    )
    program.model.metadata_props.update(meta)
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: [torch.from_numpy(image_map) for image_map in session.run(None, {'images': images.numpy()})]


def _write_program(
    model: nn.Module, example: Tensor, shapes: dict, path: Path, meta: dict[str, str]
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Write; return what runs the file."""
    program = torch.export.export(model, (example,), dynamic_shapes=(shapes,))
    torch.export.save(program, path, extra_files={'meta.json': json.dumps(meta)})
    return torch.export.load(path).module()


def _compare(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest difference of maps over their largest value; infinite for other shapes."""
    if [image_map.shape for image_map in expected] != [image_map.shape for image_map in found]:
        return float('inf')
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in zip(expected, found))
