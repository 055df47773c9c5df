"""Data sets without images are an error before the first step, not somewhere in a loader's worker."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook

from ..registry import HOOKS


@contextmanager
def explain_empty_data() -> Iterator[None]:
    """Say which data set is empty where mmengine's says that it has "at least one array to concatenate".

    Raises:
        ValueError: With the data set's place.
    """
    try:
        yield
    except ValueError as error:
        trace = error.__traceback__
        while trace is not None:
            dataset = trace.tb_frame.f_locals.get('self')
            if isinstance(dataset, BaseDataset) and 'need at least one array' in str(error):
                raise ValueError(
                    f'{_describe(dataset)} has no image to use: either there is none with the right ending in its '
                    'folder, or none is annotated with the classes of metainfo; see data_root, data_prefix, '
                    'img_suffix, metainfo and filter_cfg of the data set in your config'
                ) from None
            trace = trace.tb_next
        raise


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Looks for the first, middle and last image of each data set before it is used. The tools add it to all runs.

    Raises:
        FileNotFoundError: With the missing file and the settings that lead to it.
    """

    def before_train(self, runner) -> None:
        """Check training and validation data."""
        self._check(runner.train_dataloader, 'train_dataloader')
        if runner.val_loop is not None:
            self._check(runner.val_dataloader, 'val_dataloader')

    def before_test(self, runner) -> None:
        """Check test data."""
        self._check(runner.test_dataloader, 'test_dataloader')

    def _check(self, loader, name: str) -> None:
        for dataset in _leaves(getattr(loader, 'dataset', None)):
            if getattr(dataset, 'backend_args', None):  # not on this machine
                continue
            for index in sorted({0, len(dataset) // 2, len(dataset) - 1}):
                path = dataset.get_data_info(index).get('img_path')
                if path and '://' not in path and not os.path.exists(path):
                    raise FileNotFoundError(
                        f'{_describe(dataset)} lists {len(dataset)} images, but there is no {path}; set '
                        f'{name}.dataset.data_root and data_prefix to where the images are'
                    )


def _leaves(dataset) -> list[BaseDataset]:
    """Return the data sets inside wrappers that repeat or join them."""
    if isinstance(dataset, BaseDataset):
        return [dataset] if len(dataset) else []
    children = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [leaf for child in children if child is not None for leaf in _leaves(child)]


def _describe(dataset: BaseDataset) -> str:
    place = getattr(dataset, 'ann_file', '') or (getattr(dataset, 'data_prefix', None) or {}).get('img_path')
    return f'{type(dataset).__name__}({place or getattr(dataset, "data_root", "")})'
