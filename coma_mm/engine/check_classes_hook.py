"""Folders and models that do not have the same classes are errors before the first step."""

from mmengine.hooks import Hook

from ..registry import HOOKS
from .wrappers import unwrap


def require_same_classes(one, other, names: tuple[str, str]) -> None:
    """Raise if two data sets number different classes: a label of one would mean another class in the other.

    Args:
        one: A data set with ``classes`` in its ``metainfo``; without them there is nothing to check.
        other: A data set to go with it.
        names: What the error calls their images.

    Raises:
        ValueError: With the numbers of classes and the first ones that only one data set has.
    """
    classes, others = (dataset.metainfo.get('classes') for dataset in (one, other))
    if classes is None or others is None or list(classes) == list(others):
        return
    different = sorted(set(classes) ^ set(others)) or ['their order']
    raise ValueError(
        f'the images {names[0]} have {len(classes)} classes, those {names[1]} {len(others)}, but labels need the same '
        f'ones on both sides; they differ in {", ".join(different[:5])}{", ..." if len(different) > 5 else ""}. '
        'Each sub-folder is a class; one without images may be empty'
    )


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compares the number of classes in the data with that of a classifier of mmpretrain.

    Raises:
        ValueError: Before the first step, with both numbers and the options to write.
    """

    def before_train(self, runner) -> None:
        """Check the training images, and those of validation against them."""
        dataset = runner.train_loop.dataloader.dataset
        self._check(runner, dataset)
        if runner.val_loop is not None:
            require_same_classes(dataset, runner.val_loop.dataloader.dataset, ('to train on', 'to validate on'))

    def before_test(self, runner) -> None:
        """Check the test images."""
        self._check(runner, runner.test_loop.dataloader.dataset)

    def _check(self, runner, dataset) -> None:
        model = unwrap(runner.model)
        classes = dataset.metainfo.get('classes')
        if classes is None:
            return
        numbers = {
            'model.head.num_classes': model.head.num_classes,
            # None where labels are not mixed
            'model.data_preprocessor.num_classes': getattr(model.data_preprocessor, 'num_classes', None),
        }
        wrong = {name: number for name, number in numbers.items() if number not in (None, len(classes))}
        if wrong:
            raise ValueError(
                f'the data have {len(classes)} classes ({", ".join(classes[:3])}{", ..." if len(classes) > 3 else ""}),'
                f' the model {next(iter(wrong.values()))}: add --cfg-options '
                + ' '.join(f'{name}={len(classes)}' for name in wrong)
            )
