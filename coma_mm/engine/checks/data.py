"""Checks of data before the first step: images without annotations, classes by name, masks that do not fit."""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ...checkpoints.settings import read_meta
from ...datasets import ClassFolder
from ...datasets.coco_file import read_parts
from ...registry import HOOKS
from ...utils.text import first_few, printable
from ..common import leaf_datasets, unwrap

# ---- data sets without images, images without annotations ----

BUILDERS = {f'build_{name}_loop': f'{name}_dataloader' for name in ('train', 'val', 'test')}


@contextmanager
def explain_data(place: str | None = None) -> Iterator[None]:
    """Say which data set cannot be read, and what to set, where the toolboxes raise what they stumbled over.

    Args:
        place: The setting with the loader of the data, where it is no loop of the runner's.
    """
    try:
        yield
    except Exception as error:
        # Names of public methods, and their `self`: settings alone do not say which files a data set reads.
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
        self._check(runner, runner.train_dataloader, 'train_dataloader')
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader, 'test_dataloader')

    def _check(self, runner: Runner, loader: DataLoader, name: str) -> None:
        model = unwrap(runner.model)
        for dataset in leaf_datasets(getattr(loader, 'dataset', None)):
            if name == 'train_dataloader':  # where labels of its classes are learnt
                _check_detector(model, dataset)
            _CheckMask.insert(model, dataset)
            if getattr(dataset, 'backend_args', None):  # not on this machine
                continue
            _check_categories(dataset, name)
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


def _check_categories(dataset: BaseDataset, loader: str) -> None:
    """Raise if a COCO file lacks classes of its data set: mmdet numbers the others without them."""
    classes, known = dataset.metainfo.get('classes'), getattr(dataset, 'cat_ids', None)
    if not isinstance(classes, (list, tuple)) or not isinstance(known, list) or len(known) >= len(classes):
        return
    names = [str(category.get('name')) for category in read_parts(dataset.ann_file)['categories']]
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'{_describe(dataset)} has no category {first_few(missing, 3)}, but {printable(first_few(names, 10))}: set '
            f'{loader}.dataset.metainfo.classes to those to learn, spelt as in {dataset.ann_file}'
        )


def _check_detector(model: nn.Module, dataset: BaseDataset) -> None:
    """Raise if a detector of mmdet tells fewer classes apart than its data have: labels would lie outside."""
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
    """A step behind ``LoadAnnotations`` of mmseg. Without it, a bad mask fails later, and its file is not named."""

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
        """Return the results as they are; refuse a mask that cannot belong to the image or the model."""
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


def _describe(dataset: BaseDataset) -> str:
    place = getattr(dataset, 'ann_file', '') or (getattr(dataset, 'data_prefix', None) or {}).get('img_path')
    return f'{type(dataset).__name__}({place or getattr(dataset, "data_root", "")})'


# ---- classes of folders, numbered as a model or another data set does it ----


def require_same_classes(bank: Dataset, images: Dataset) -> None:
    """Renumber the labels of ``images`` to match ``bank`` by class name; raise if the classes differ.

    Args:
        bank: Labelled images to compare with. Without ``classes`` in its ``metainfo`` there is nothing to do.
        images: Images to classify. Labels of :class:`coma_mm.datasets.ClassFolder` follow; it may lack classes.
    """
    classes = _classes_of(bank)
    if classes is not None:
        _number(images, classes, 'those to compare with have', 'the images to classify')


def _number(dataset: Dataset, classes: Sequence[str], namer: str, what: str) -> None:
    folders = [leaf for leaf in leaf_datasets(dataset) if isinstance(leaf, ClassFolder)]
    for folder in folders:
        folder.number_as(classes, namer)
    others = _classes_of(dataset)
    if others is None or list(classes) == list(others):
        return
    if folders and 'classes' in (vars(dataset).get('_metainfo') or {}):  # what wraps them keeps a copy
        dataset._metainfo['classes'] = tuple(classes)
        return
    different = sorted(set(classes) ^ set(others)) or ['their order']
    raise ValueError(
        f'{what} have {len(others)} classes, but {namer} {len(classes)}, and labels need the same ones; they differ in '
        f'{first_few(different, 5)}'
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
        data = read_meta(checkpoint).get('dataset_meta')
        classes = data.get('classes') if isinstance(data, dict) else None
        named = isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes)
        if classes is None or not named or not hasattr(unwrap(runner.model), 'head'):
            return
        starts = isinstance(runner._train_loop, BaseLoop) and not getattr(runner, '_resume', False)
        if starts and runner.cfg.get('load_partial'):  # a classifier of other classes
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
                f'the data have {len(classes)} classes ({first_few(classes, 3)}), the model '
                f'{next(iter(wrong.values()))}: add --cfg-options {advice}'
            )
