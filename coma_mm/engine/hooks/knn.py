"""kNN accuracy of the features: before, during and after training, and as a test with configs/cls/knn_*."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.dist import all_gather, master_only
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from mmengine.structures import BaseDataElement
from mmengine.utils import get_object_from_string
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...evaluation import KNN, NearestNeighbours, collect_features
from ...models import FeatureExtractor
from ...models.coma import eval_mode
from ...models.feature_extractor import require_pool
from ...registry import DATASETS, HOOKS, LOOPS
from ...utils.arguments import require_number, require_whole
from ..checks.data import explain_data, require_same_classes
from ..common import unwrap
from ..runner.periodic import PeriodicHook


@HOOKS.register_module()
class KNNHook(PeriodicHook):
    """Classifies labelled images by their nearest neighbours, with the first weights of the run and with the last.

    Features are those of the backbone's last map, standardised (:class:`coma_mm.evaluation.NearestNeighbours`). Each
    accuracy is logged as ``knn/top1_k20``, the first and the last side by side at the end. The first one travels with
    checkpoints. One process does it all while the others wait: of a big data set take some thousand images.

    Args:
        data: ``dict(type=..., **arguments)``: ``type`` is the dotted name of a function that returns images, an array
            (N, 3, H, W) of RGB uint8, and labels (N,). Split at random; or give ``train`` and ``val``.
        train: Config of the data set to compare with. Its images need one size and no random transforms.
        val: Config of the data set to classify.
        interval: Epochs between evaluations; 0 for those of the first and last weights only.
        name: Name of the data in the log.
        k: Neighbours.
        train_fraction: Share of ``data`` that may be neighbours; the others are classified.
        seed: Seed of this split.
        pool: See :class:`coma_mm.models.FeatureExtractor`.
        batch_size: Images per forward pass.
        num_workers: Processes that read ``train`` and ``val``.

    Raises:
        ValueError: If neither ``data`` nor both of ``train`` and ``val`` are given, images have no labels, or their
            classes differ.
    """

    what = 'kNN evaluation'

    def __init__(
        self,
        data: dict | None = None,
        train: dict | None = None,
        val: dict | None = None,
        interval: int = 0,
        name: str = 'labelled images',
        k: int = 20,
        train_fraction: float = 0.5,
        seed: int = 0,
        pool: str = 'mean',
        batch_size: int = 256,
        num_workers: int = 4,
    ):
        if (data is None) == (train is None) or (train is None) != (val is None):
            raise ValueError('KNNHook needs either `data`, or `train` and `val`')
        super().__init__(interval)
        require_whole(1, k=k, batch_size=batch_size)
        require_whole(0, num_workers=num_workers, seed=seed)
        require_number('(0, 1)', train_fraction=train_fraction)
        require_pool(pool)
        self.data, self.train, self.val = data, train, val
        self.name, self.k, self.train_fraction = name, k, train_fraction
        self.seed, self.pool, self.batch_size, self.num_workers = seed, pool, batch_size, num_workers

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Load the data and evaluate the weights at the start."""
        if self.data:
            train, val = self._split()
        else:
            train, val = DATASETS.build(self.train), DATASETS.build(self.val)
            require_same_classes(train, val)
        self.loaders = self._loader(train), self._loader(val)
        if runner.message_hub.get_info('knn_start') is None:
            runner.message_hub.update_info('knn_start', self._evaluate(runner))
            backbone = unwrap(runner.model).backbone
            loaded = runner._has_loaded or 'Pretrained' in str(getattr(backbone, 'init_cfg', None))
            runner.message_hub.update_info('knn_start_weights', 'loaded' if loaded else 'random')

    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        """Log the accuracy, at the end of training beside that of the first weights."""
        accuracy = self._evaluate(runner)
        if not last:
            runner.logger.info(f'kNN accuracy on {self.name} after {runner.epoch + 1} epochs: {accuracy:.1f} %')
            return
        start, weights = (runner.message_hub.get_info(name) for name in ('knn_start', 'knn_start_weights'))
        train, val = (len(loader.dataset) for loader in self.loaders)
        runner.logger.info(
            f'kNN accuracy on {self.name} ({train} to compare with, {val} to classify): {weights} weights '
            f'{start:.1f} %, weights just trained {accuracy:.1f} %: {accuracy - start:+.1f}'
        )

    def _split(self) -> tuple[list[dict], list[dict]]:
        assert self.data is not None
        data = dict(self.data)
        images, labels = get_object_from_string(data.pop('type'))(**data)
        order = np.random.default_rng(self.seed).permutation(len(labels))
        samples = [
            dict(inputs=torch.as_tensor(images[i]), data_samples=BaseDataElement(gt_label=int(labels[i])))
            for i in order
        ]
        count = round(self.train_fraction * len(samples))
        return samples[:count], samples[count:]

    def _loader(self, dataset: Dataset | list) -> DataLoader:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=0 if self.data else self.num_workers,
            collate_fn=default_collate,
            generator=torch.Generator(),  # of its own: the run must not depend on its evaluations
        )

    def _evaluate(self, runner: Runner) -> float:
        model = unwrap(runner.model)
        with eval_mode(model):
            extractor = FeatureExtractor(model.backbone, self.pool, model.data_preprocessor).eval()
            (known, labels), (features, truth) = (collect_features(extractor, loader) for loader in self.loaders)
        if labels is None or truth is None:
            what = 'to compare with' if labels is None else 'to classify'
            raise ValueError(f'KNNHook: the images {what} have no labels')
        predicted = NearestNeighbours(known, labels).predict(features, [self.k])[:, 0]
        accuracy = 100 * (predicted == truth).double().mean().item()
        runner.visualizer.add_scalars({f'knn/top1_k{self.k}': accuracy}, runner.iter)
        return accuracy


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
        require_same_classes(self.bank.dataset, self.dataloader.dataset)

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
