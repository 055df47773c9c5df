"""Labels by name: classes of folders are numbered as a model or another data set does it."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import Dataset

from ...datasets import ClassFolder
from ...registry import HOOKS
from ..common import leaf_datasets, unwrap


def require_same_classes(bank: Dataset, images: Dataset) -> None:
    """Renumber the labels of ``images`` to match ``bank`` by class name; raise if the classes differ.

    Args:
        bank: Labelled images to compare with. Without ``classes`` in its ``metainfo`` there is nothing to do.
        images: Those to classify. Labels of :class:`coma_mm.datasets.ClassFolder` follow; it may lack classes.

    Raises:
        ValueError: With the classes that only ``images`` has, or, of other data sets, with all that differ.
    """
    classes = _classes_of(bank)
    if classes is not None:
        _number(images, classes, 'those to compare with have', 'the images to classify')


def _number(dataset: Dataset, classes: Sequence[str], namer: str, what: str) -> None:
    folders = [leaf for leaf in leaf_datasets(dataset) if isinstance(leaf, ClassFolder)]
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
        meta = checkpoint.get('meta')
        data = meta.get('dataset_meta') if isinstance(meta, dict) else None
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
                f'the data have {len(classes)} classes ({", ".join(classes[:3])}{", ..." if len(classes) > 3 else ""}),'
                f' the model {next(iter(wrong.values()))}: add --cfg-options {advice}'
            )
