"""What does not fit is an error before the first step: channels, classes, data."""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..arguments import did_you_mean
from ..datasets import ClassFolder
from ..registry import HOOKS
from .common import unwrap

# ---- what a backbone returns, and what the parts behind it were told ----


def check_modules(model: nn.Module, optim_wrapper: dict) -> None:
    """Refuse names of modules to autocast that the model does not have.

    Args:
        model: Without wrappers.
        optim_wrapper: Settings of one, or of several by name.

    Raises:
        ValueError: With the name that comes near.
    """
    known = [name for name, _ in model.named_modules() if name]
    wrappers = {'optim_wrapper': optim_wrapper} | {f'optim_wrapper.{key}': x for key, x in optim_wrapper.items()}
    for place, wrapper in wrappers.items():
        for name in (wrapper.get('modules') or ()) if isinstance(wrapper, dict) else ():
            if name not in known:
                raise ValueError(
                    f'{place}.modules names {name!r}, which {type(model).__name__} does not have'
                    f'{did_you_mean(name, known)}; set --cfg-options {place}.modules={known[0]},'
                )


def check_channels(model: nn.Module) -> None:
    """Compare a backbone's ``out_channels`` with ``in_channels`` of the neck, or without a neck of the heads.

    Args:
        model: Of mmpretrain, mmdet or mmseg; also one that contains others, as semi-supervised detectors and trackers
            do. Backbones that do not state ``out_channels`` are not checked.

    Raises:
        ValueError: If they differ, or if a classifier gets maps that nothing pooled: with the settings to change, as
            ``--cfg-options`` takes them.
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


# ---- classes of folders and of models ----


def require_same_classes(one: Dataset, other: Dataset, names: tuple[str, str]) -> None:
    """Number the labels of a data set as another one does; raise where that cannot be.

    Args:
        one: A data set with ``classes`` in its ``metainfo``; without them there is nothing to do.
        other: A data set to go with it. Labels of :class:`coma_mm.datasets.ClassFolder` follow; it may lack classes.
        names: What the error calls their images.

    Raises:
        ValueError: With the classes that only the other data set has, or, of other data sets, with all that differ.
    """
    classes = _classes_of(one)
    if classes is not None:
        _number(other, classes, f'those {names[0]} have', f'the images {names[1]}')


def _number(dataset: Dataset, classes: Sequence[str], namer: str, what: str) -> None:
    folders = [leaf for leaf in _leaves(dataset) if isinstance(leaf, ClassFolder)]
    for folder in folders:
        folder.number_as(classes, namer)
    if folders and 'classes' in (vars(dataset).get('_metainfo') or {}):  # what wraps them keeps a copy
        dataset._metainfo['classes'] = tuple(classes)
    others = _classes_of(dataset)
    if others is None or list(classes) == list(others):
        return
    different = sorted(set(classes) ^ set(others)) or ['their order']
    raise ValueError(
        f'{what} have {len(others)} classes, but {namer} {len(classes)}, and labels need the same ones; they differ in '
        f'{", ".join(different[:5])}{", ..." if len(different) > 5 else ""}'
    )


def _classes_of(dataset: Dataset | None) -> Any:
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Makes labels mean the same class everywhere, by name, and counts the classes of a classifier of mmpretrain.

    A checkpoint that is tested or resumed, or whose classifier a run starts from, has the names of its classes; the
    images of validation follow those of training.

    Raises:
        ValueError: Before the first step, with the classes that do not fit, or both numbers and the options to write.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Number labels as the checkpoint does."""
        meta = checkpoint.get('meta')
        data = meta.get('dataset_meta') if isinstance(meta, dict) else None
        classes = data.get('classes') if isinstance(data, dict) else None
        named = isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes)
        if classes is None or not named or not hasattr(unwrap(runner.model), 'head'):
            return
        training = isinstance(runner._train_loop, BaseLoop)
        if (
            training and not getattr(runner, '_resume', False) and runner.cfg.get('load_partial')
        ):  # a classifier of other classes
            return
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                self._number(runner, loop, classes, 'the checkpoint names')

    def before_train(self, runner: Runner) -> None:
        """Check the training images, and those of validation against them."""
        dataset = runner.train_loop.dataloader.dataset
        self._check(runner, dataset)
        classes = _classes_of(dataset)
        if runner.val_loop is not None and classes is not None:
            self._number(runner, runner.val_loop, classes, 'those to train on have')

    def before_test(self, runner: Runner) -> None:
        """Check the test images."""
        self._check(runner, runner.test_loop.dataloader.dataset, 'test_dataloader')

    @staticmethod
    def _number(runner: Runner, loop: BaseLoop, classes: Sequence[str], namer: str) -> None:
        dataset = loop.dataloader.dataset
        _number(dataset, classes, namer, 'the images')
        if hasattr(loop, 'evaluator'):
            loop.evaluator.dataset_meta = runner.visualizer.dataset_meta = dataset.metainfo

    @staticmethod
    def _check(runner: Runner, dataset: BaseDataset, loader: str | None = None) -> None:
        model, classes = unwrap(runner.model), _classes_of(dataset)
        if classes is None:
            return
        numbers = {
            'model.head.num_classes': getattr(getattr(model, 'head', None), 'num_classes', None),
            # None where labels are not mixed
            'model.data_preprocessor.num_classes': getattr(model.data_preprocessor, 'num_classes', None),
        }
        wrong = {name: number for name, number in numbers.items() if number not in (None, len(classes))}
        if wrong:
            advice = ' '.join(f'{name}={len(classes)}' for name in wrong)
            if loader:  # the model is what it is
                advice = f'"{loader}.dataset.metainfo.classes=[NAMES]" with those that the model learnt, in their order'
            raise ValueError(
                f'the data have {len(classes)} classes ({", ".join(classes[:3])}{", ..." if len(classes) > 3 else ""}),'
                f' the model {next(iter(wrong.values()))}: add --cfg-options {advice}'
            )


# ---- data sets without images, images without annotations ----

BUILDERS = {f'build_{name}_loop': f'{name}_dataloader' for name in ('train', 'val', 'test')}


@contextmanager
def explain_data(place: str | None = None) -> Iterator[None]:
    """Say which data set cannot be read, and what to set, where the toolboxes raise what they stumbled over.

    Args:
        place: The setting with the loader of the data, where it is no loop of the runner's.

    Raises:
        FileNotFoundError: If a file or folder of a data set is missing.
        ValueError: If a data set is empty, or its annotations are not as they should be.
    """
    try:
        yield
    except Exception as error:
        frames = [
            (frame.f_code.co_name, frame.f_locals.get('self')) for frame, _ in traceback.walk_tb(error.__traceback__)
        ]
        found = [x for name, x in frames if name == 'full_init' and isinstance(x, BaseDataset)]
        if not found or type(found[-1]).__module__.startswith('coma_mm.'):  # ours say it themselves
            raise
        dataset = _describe(found[-1])
        places = [BUILDERS[name] for name, _ in frames if name in BUILDERS]
        settings = f'{place or (places or ["the loader"])[-1]}.dataset'
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(
                f'there is no {error.filename or error}, which {dataset} reads: put it there, or set '
                f'{settings}.data_root, and data_prefix or ann_file, to where it is'
            ) from error
        if 'need at least one array' in str(error):
            raise ValueError(
                f'{dataset} has no image to use: either there is none with the right ending in its folder, or none is '
                'annotated with the classes of metainfo; see data_root, data_prefix, img_suffix, metainfo and '
                f'filter_cfg of {settings}'
            ) from None
        raise ValueError(
            f'{dataset} cannot be read ({type(error).__name__}: {error}): are its files as this kind of data set '
            f'expects them? See {settings}'
        ) from error


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Looks at the first, middle and last image of each data set before it is used. The tools add it to all runs.

    The files have to be there. Annotations are loaded as the pipeline will, and must fit the image and the model: masks
    of one channel, as large as the image, with no label above the model's classes. All other masks are compared when
    they are loaded, by a step that is put into the pipeline.

    Raises:
        FileNotFoundError: With the missing file and the settings that lead to it.
        ValueError: With the file that does not fit, and the remedy.
    """

    def before_train(self, runner: Runner) -> None:
        """Check training and validation data."""
        self._check(runner, runner.train_dataloader, 'train_dataloader')
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Check test data."""
        self._check(runner, runner.test_dataloader, 'test_dataloader')

    def _check(self, runner: Runner, loader: DataLoader, name: str) -> None:
        model = unwrap(runner.model)
        for dataset in _leaves(getattr(loader, 'dataset', None)):
            if name == 'train_dataloader':  # where labels of its classes are learnt
                _check_detector(model, dataset)
            _CheckMask.insert(model, dataset)
            if getattr(dataset, 'backend_args', None):  # not on this machine
                continue
            for index in sorted({0, len(dataset) // 2, len(dataset) - 1}):
                info = dataset.get_data_info(index)
                for key, what in (('img_path', 'the images'), ('seg_map_path', 'their masks')):
                    path = info.get(key)
                    if isinstance(path, str) and '://' not in path and not os.path.exists(path):
                        raise FileNotFoundError(
                            f'{_describe(dataset)} lists {len(dataset)} images, but there is no {path}; set '
                            f'{name}.dataset.data_root and data_prefix to where {what} are'
                        )
                _check_annotations(dataset, info)


def _check_detector(model: nn.Module, dataset: BaseDataset) -> None:
    """Raise if a detector of mmdet tells fewer classes apart than its data have: labels would lie outside."""
    # COCO's sets number only those classes that the annotations know.
    classes = getattr(dataset, 'cat_ids', None) or dataset.metainfo.get('classes')
    box_head = 'roi_head.bbox_head' if hasattr(model, 'roi_head') else 'bbox_head'
    for place in (box_head, 'roi_head.mask_head'):
        head = model
        for part in place.split('.'):
            head = getattr(head, part, None)
        stages = enumerate(head) if isinstance(head, nn.ModuleList) else [(None, head)]
        for number, stage in stages:
            count = getattr(stage, 'num_classes', None)
            if isinstance(classes, (list, tuple)) and isinstance(count, int) and count < len(classes):
                key = f'model.{place}' + (f'.{number}' if number is not None else '')
                raise ValueError(
                    f'{_describe(dataset)} has {len(classes)} classes, {key} knows {count}: set '
                    f'{key}.num_classes={len(classes)}, or metainfo.classes of the data set'
                )


def _check_annotations(dataset: BaseDataset, info: dict) -> None:
    """Load an image and its annotations as the pipeline does; masks are compared by the step that does so later."""
    image = _find_step(dataset, 'LoadImage')
    annotations, compare = _find_step(dataset, 'Load', 'Annotations'), _find_step(dataset, _CheckMask.__name__)
    if image is None or annotations is None:
        return
    path = info.get('seg_map_path') or info.get('img_path')
    try:
        results = annotations(image(dict(info)))
    except Exception as error:  # as many kinds as there are data sets
        raise ValueError(
            f'{_describe(dataset)}: {path} or its annotations cannot be loaded ({type(error).__name__}: {error}); is '
            'the file whole, and is what the pipeline loads (boxes, masks) annotated?'
        ) from error
    if compare is not None:
        compare(results)


def _find_step(dataset: BaseDataset, *parts: str) -> Callable | None:
    """Return the first step of a data set's pipeline that has a name that starts with the first part and has all."""
    for step in getattr(dataset.pipeline, 'transforms', ()):
        name = type(step).__name__
        if name.startswith(parts[0]) and all(part in name for part in parts):
            return step
    return None


class _CheckMask:
    """A step behind ``LoadAnnotations`` of mmseg, since what a mask has wrong comes up far from here, without a name.

    Args:
        head: Of the segmentor.
        dataset: Of mmseg.
    """

    def __init__(self, head: nn.Module, dataset: BaseDataset):
        self.classes = head.num_classes
        self.ignored = {head.ignore_index, getattr(dataset, 'ignore_index', 255)}
        self.reduced = bool(getattr(dataset, 'reduce_zero_label', False))

    @classmethod
    def insert(cls, model: nn.Module, dataset: BaseDataset) -> None:
        """Put the step into the pipeline of a data set of masks, once."""
        head = getattr(model, 'decode_head', None)
        head = head[-1] if isinstance(head, nn.ModuleList) else head  # of a cascade
        loads = _find_step(dataset, 'Load', 'Annotations')
        if loads is None or not hasattr(head, 'ignore_index') or _find_step(dataset, cls.__name__):
            return
        steps = dataset.pipeline.transforms
        steps.insert(steps.index(loads) + 1, cls(head, dataset))

    def __call__(self, results: dict) -> dict:
        """Return the results as they are.

        Raises:
            ValueError: If the mask cannot belong to the image or the model.
        """
        path, mask = results.get('seg_map_path'), results['gt_seg_map']
        if mask.ndim != 2:
            raise ValueError(
                f'the mask {path} is an image of {mask.shape[-1]} channels: a mask has one, whose pixels are numbers '
                'of classes; convert colours to numbers'
            )
        height, width = results['ori_shape'][:2]
        if mask.shape != (height, width):
            raise ValueError(
                f'the mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {results.get("img_path")} '
                f'{width} x {height}: they must be of one size'
            )
        if mask.max() >= self.classes and (wrong := set(np.unique(mask[mask >= self.classes]).tolist()) - self.ignored):
            more = f' and {len(wrong) - 1} more such' if len(wrong) > 1 else ''
            reduced = 'after reduce_zero_label ' if self.reduced else ''
            raise ValueError(
                f'the mask {path} has the label {max(wrong)}{more}, but the model knows {self.classes} classes, '
                f'{reduced}labels 0 to {self.classes - 1} ({min(self.ignored)} is ignored): set '
                'num_classes of the heads and metainfo.classes of the data, or change the mask'
            )
        return results


def _leaves(dataset: Dataset | None) -> list[BaseDataset]:
    """Return the data sets inside wrappers that repeat or join them."""
    if isinstance(dataset, BaseDataset):
        return [dataset] if len(dataset) else []
    children = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [leaf for child in children if child is not None for leaf in _leaves(child)]


def _describe(dataset: BaseDataset) -> str:
    place = getattr(dataset, 'ann_file', '') or (getattr(dataset, 'data_prefix', None) or {}).get('img_path')
    return f'{type(dataset).__name__}({place or getattr(dataset, "data_root", "")})'
