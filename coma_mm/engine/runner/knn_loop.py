"""kNN evaluation as a test: ``tools/test.py`` with a config of configs/cls/knn_*."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_gather
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch import Tensor
from torch.utils.data import DataLoader

from ...evaluation import KNN, collect_features
from ...registry import LOOPS
from ..checks.classes import require_same_classes
from ..checks.data import explain_data


@LOOPS.register_module()
class KNNLoop(TestLoop):
    """Collects the features of a bank of labelled images, then tests against them.

    The model is a ``coma_mm.FeatureExtractor``, the evaluator has a ``coma_mm.KNN``. Processes share the work; each
    holds the features of the whole bank (ImageNet-1K and DyViT-B: 1.28 M x 1024 floats, 5.2 GB, and three times that
    for a moment).

    Args:
        dataloader: Config of the loader of images to classify.
        evaluator: Config of the evaluator.
        bank: Config of the loader of images to compare with, usually those of training in the pipeline of tests. Its
            sampler is mmengine's ``DefaultSampler``.

    Raises:
        ValueError: If the two data sets are not of the same classes, or the bank has no labels.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, evaluator: Evaluator | dict | Sequence, bank: dict
    ):
        super().__init__(runner, dataloader, evaluator)
        with explain_data('test_cfg.bank'):
            self.bank = runner.build_dataloader(bank, seed=runner.seed)
        require_same_classes(self.bank.dataset, self.dataloader.dataset, ('to compare with', 'to classify'))

    def run(self) -> dict:
        self.runner.model.eval()
        features, labels = collect_features(self.runner.model, self._log_batches())
        if labels is None:
            raise ValueError('the images to compare with have no labels')
        features, labels = self._gather(features), self._gather(labels)
        for metric in self.evaluator.metrics:
            if isinstance(metric, KNN):
                metric.set_bank(features, labels)
        return super().run()

    def _log_batches(self) -> Iterator[dict]:
        for number, batch in enumerate(self.bank, 1):
            yield batch
            if number % 100 == 0 or number == len(self.bank):
                self.runner.logger.info(f'features to compare with: batch {number} of {len(self.bank)}')

    def _gather(self, values: Tensor) -> Tensor:
        """Bring together what the processes have, without the images that fill up the last round of the sampler."""
        return torch.stack(all_gather(values), 1).flatten(0, 1)[: len(self.bank.dataset)]
