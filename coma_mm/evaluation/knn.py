"""k-nearest-neighbour classification by frozen features: nothing is trained.

Shapes: N labelled images to compare with, Q images to classify, C features of each.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import Tensor

from ..registry import METRICS
from ..utils.arguments import require_flag, require_number, require_whole

MAX_SIMILARITIES = 2**27  # computed at once: 0.5 GB


@torch.no_grad()
def collect_features(model: BaseModel, batches: Iterable[dict]) -> tuple[Tensor, Tensor | None]:
    """Run a feature extractor over a data loader.

    Args:
        model: :class:`coma_mm.models.FeatureExtractor`, possibly in a wrapper; in the mode that it is in.
        batches: What pipelines and ``default_collate`` make: dicts of ``inputs`` and, optionally, ``data_samples``.

    Returns:
        Features (N, C) and labels (N,), int64, both where the model is; ``None`` for labels if there are none.

    Raises:
        ValueError: If there are no images.
    """
    features, labels = [], []
    for batch in batches:
        samples = model.test_step(batch)
        features.append(torch.stack([sample.feature for sample in samples]))
        labels += [int(sample.gt_label) for sample in samples if 'gt_label' in sample]
    if not features:
        raise ValueError('there are no images to take features of')
    features = torch.cat(features)
    return features, torch.tensor(labels, device=features.device) if labels else None


class NearestNeighbours:
    """Classifies by a weighted vote of the ``k`` most similar labelled images: the protocol of InstDisc and DINO.

    Similarity ``s`` is the cosine, a vote weighs ``exp(s / temperature)``. Unlike there, each channel is first brought
    to mean 0 and deviation 1, since features of masked autoencoders have a large common part.

    Args:
        features: (N, C), those to compare with.
        labels: (N,), int64.
        temperature: Temperature of the votes.
        standardize: Whether channels are brought to the same scale, by the statistics of ``features``.
    """

    def __init__(self, features: Tensor, labels: Tensor, temperature: float = 0.07, standardize: bool = True):
        self.mean, self.deviation = 0.0, 1.0
        if standardize:
            deviation, self.mean = torch.std_mean(features, 0, unbiased=False)
            self.deviation = deviation + 1e-6
        self.directions = self._directions(features)
        self.labels = labels.to(features.device)
        self.num_classes = int(labels.max()) + 1
        self.temperature = temperature

    @torch.no_grad()
    def predict(self, features: Tensor, ks: Sequence[int]) -> Tensor:
        """Classify.

        Args:
            features: (Q, C).
            ks: Numbers of neighbours; where there are fewer, all vote.

        Returns:
            (Q, len(ks)), the label that each number of neighbours votes for.
        """
        predicted = []
        # In chunks, so that the matrix of similarities stays small.
        for queries in self._directions(features).split(max(1, MAX_SIMILARITIES // len(self.directions))):
            similarity, nearest = (queries @ self.directions.T).topk(min(max(ks), len(self.directions)), dim=1)
            # Relative to the nearest one: exp(1 / temperature) itself would overflow at small temperatures.
            weights = ((similarity - similarity[:, :1]) / self.temperature).exp()
            labels = self.labels[nearest]
            votes = (
                queries.new_zeros(len(queries), self.num_classes).scatter_add_(1, labels[:, :k], weights[:, :k])
                for k in ks
            )
            predicted.append(torch.stack([vote.argmax(1) for vote in votes], 1))
        return torch.cat(predicted)

    def _directions(self, features: Tensor) -> Tensor:
        return F.normalize((features - self.mean) / self.deviation, dim=1)


@METRICS.register_module()
class KNN(BaseMetric):
    """Accuracy in percent of :class:`NearestNeighbours`, ``knn/top1_k20`` for 20 of them.

    ``coma_mm.KNNLoop`` hands over the labelled features; samples to classify carry ``feature`` and ``gt_label``
    (``coma_mm.FeatureExtractor``).

    Args:
        k: Numbers of neighbours, one or several.
        temperature: Temperature of the votes.
        standardize: See :class:`NearestNeighbours`.
        **kwargs: Those of ``BaseMetric``.
    """

    default_prefix = 'knn'

    def __init__(
        self, k: int | Sequence[int] = (10, 20, 100), temperature: float = 0.07, standardize: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.ks = (k,) if isinstance(k, int) else tuple(k)
        require_whole(1, **{f'k[{i}]': k for i, k in enumerate(self.ks)})
        require_number('(0, inf)', temperature=temperature)
        require_flag(standardize=standardize)
        if not self.ks:
            raise ValueError('k must be one number of neighbours or several, got none')
        self.temperature = temperature
        self.standardize = standardize
        self.classifier: NearestNeighbours | None = None

    def set_bank(self, features: Tensor, labels: Tensor) -> None:
        """Take the features (N, C) and labels (N,) to compare with."""
        self.classifier = NearestNeighbours(features, labels, self.temperature, self.standardize)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Classify a batch.

        Raises:
            RuntimeError: If there is nothing to compare with.
        """
        if self.classifier is None:
            raise RuntimeError("coma_mm.KNN has no features to compare with: set test_cfg=dict(type='coma_mm.KNNLoop')")
        predicted = self.classifier.predict(torch.stack([sample['feature'] for sample in data_samples]), self.ks).cpu()
        labels = torch.tensor([int(sample['gt_label']) for sample in data_samples])
        self.results.extend(predicted == labels[:, None])

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Return the share of correct votes of each number of neighbours."""
        accuracy = 100 * torch.stack(results).double().mean(0)
        return {f'top1_k{k}': value for k, value in zip(self.ks, accuracy.tolist())}
