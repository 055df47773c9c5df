"""What training did to the features: kNN accuracy before and after."""

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.utils import get_object_from_string

from ..evaluation import extract_features, knn_accuracy, standardize
from ..registry import HOOKS


@HOOKS.register_module()
class KNNHook(Hook):
    """Classifies a small labelled set by its nearest neighbours, with the first weights of the run and with the last.

    Features are those of the last map, standardised. Both numbers are logged side by side at the end. The first one
    travels with checkpoints, so that a resumed run does not mistake its half-trained weights for those at the start.

    Args:
        data: ``dict(type=..., **arguments)``: ``type`` is the dotted name of a function that returns images, an array
            (N, 3, H, W) of RGB uint8, and labels (N,).
        name: What the log calls the data.
        k: Neighbours.
        temperature: Of their votes, see :func:`coma_mm.evaluation.knn_accuracy`.
        train_fraction: Share of the images that may be neighbours; the others are classified.
        seed: Of this split.
        pool: Average features over the map, see :func:`coma_mm.evaluation.extract_features`.
    """

    def __init__(
        self,
        data: dict,
        name: str = 'labelled images',
        k: int = 20,
        temperature: float = 0.07,
        train_fraction: float = 0.5,
        seed: int = 0,
        pool: bool = True,
    ):
        self.data = dict(data)
        self.name = name
        self.k = k
        self.temperature = temperature
        self.train_fraction = train_fraction
        self.seed = seed
        self.pool = pool

    @master_only
    def before_train(self, runner) -> None:
        """Load the data and evaluate the weights at the start."""
        load = get_object_from_string(self.data.pop('type'))
        images, labels = load(**self.data)
        order = np.random.default_rng(self.seed).permutation(len(labels))
        self.images = torch.as_tensor(images)[order]
        self.labels = torch.as_tensor(labels)[order]
        self.num_train = round(self.train_fraction * len(labels))
        if runner.message_hub.get_info('knn_start') is None:
            runner.message_hub.update_info('knn_start', self._evaluate(runner))
            loaded = runner._has_loaded
            runner.message_hub.update_info('knn_start_weights', 'loaded' if loaded else 'random')

    @master_only
    def after_train(self, runner) -> None:
        """Evaluate the weights at the end and log both."""
        start, end = runner.message_hub.get_info('knn_start'), self._evaluate(runner)
        weights = runner.message_hub.get_info('knn_start_weights')
        runner.logger.info(
            f'kNN accuracy on {self.name} ({self.num_train} to compare with, {len(self.labels) - self.num_train} to '
            f'classify): {weights} weights {start:.1f} %, weights just trained {end:.1f} %: {end - start:+.1f}'
        )
        runner.visualizer.add_scalars(dict(knn_start=start, knn=end), runner.iter)

    def _evaluate(self, runner) -> float:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        features = extract_features(model, self.images, pool=self.pool)
        labels = self.labels.to(features.device)
        train, test = slice(self.num_train), slice(self.num_train, None)
        neighbours, queries = standardize(features[train], features[test])
        return knn_accuracy(neighbours, labels[train], queries, labels[test], self.k, self.temperature)
