"""Linear probes in closed form: no learning rate, no chance, and few labels are enough.

Shapes: N labelled images to learn from, Q images to classify, C features of each, K classes.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 4096  # rows or columns in float64 at once
PENALTIES = tuple(10 ** (power / 2) for power in range(-8, 5))


class LinearProbe:
    """Ridge regression from standardised features to one-hot labels; the largest output is the class.

    Computes in float64, with matrices of C x C or N x N, whichever is smaller. Each penalty is judged by how many
    images are classified correctly after learning from all others (leave-one-out, exact). The strongest within a
    standard error of the best is taken: few labels tell little about the penalty. With one label a class they tell
    nothing, and it is 1.

    Args:
        features: (N, C).
        labels: (N,), int64.
        penalties: Strengths to choose from, for standardised features that are divided by the root of C.

    Raises:
        ValueError: If there are not two classes, or features are not finite.
    """

    def __init__(self, features: Tensor, labels: Tensor, penalties: Sequence[float] = PENALTIES):
        self.labels = labels.to(features.device)
        if len(self.labels.unique()) < 2:
            raise ValueError('a linear probe needs images of two classes or more')
        if not features.isfinite().all():
            raise ValueError('a linear probe needs finite features; these have NaN or infinite values')
        columns = [torch.std_mean(part.double(), 0, unbiased=False) for part in features.split(CHUNK, 1)]
        deviation, self.mean = (torch.cat(parts) for parts in zip(*columns))
        self.scale = 1 / ((deviation + 1e-6) * features.shape[1] ** 0.5)
        targets = F.one_hot(self.labels).double()
        self.bias = targets.mean(0)
        self._learn(features, targets - self.bias, penalties)

    def predict(self, features: Tensor) -> Tensor:
        """Classify (Q, C): (Q,)."""
        return torch.cat([(x @ self.weight + self.bias).argmax(1) for x in self._standardised(features)])

    def _learn(self, features: Tensor, targets: Tensor, penalties: Sequence[float]) -> None:
        """Set ``penalty`` and ``weight`` (C, K), from centred targets (N, K)."""
        is_dual = len(features) <= features.shape[1]
        if is_dual:
            gram = sum(x @ x.T for x in self._standardised_columns(features))
        else:
            gram = sum(x.T @ x for x in self._standardised(features))
        values, vectors = torch.linalg.eigh(gram)
        values = values.clamp_min(0)
        # Projections of the images on the principal axes.
        projected = (
            vectors * values.sqrt() if is_dual else torch.cat([x @ vectors for x in self._standardised(features)])
        )
        moment = projected.T @ targets
        right = {
            penalty: self._count_right(projected, targets, moment / (values + penalty)[:, None], 1 / (values + penalty))
            for penalty in penalties
        }
        most = max(right.values())
        enough = most - (most * (1 - most / len(targets))) ** 0.5
        self.penalty = max(penalty for penalty in penalties if right[penalty] >= enough)
        if not most and len(penalties) > 1:
            self.penalty = 1.0
        inverse = 1 / (values + self.penalty)[:, None]
        if is_dual:
            dual = vectors @ (inverse * (vectors.T @ targets))
            self.weight = torch.cat([x.T @ dual for x in self._standardised_columns(features)])
        else:
            self.weight = vectors @ (inverse * moment)

    def _count_right(self, projected: Tensor, targets: Tensor, weight: Tensor, inverse: Tensor) -> int:
        """Return how many images are classified correctly without having been learnt from."""
        right = 0
        for x, y, label in zip(projected.split(CHUNK), targets.split(CHUNK), self.labels.split(CHUNK)):
            leverage = 1 / len(targets) + x.square() @ inverse
            left_out = y - (y - x @ weight) / (1 - leverage).clamp_min(1e-12)[:, None]
            right += int(((left_out + self.bias).argmax(1) == label).sum())
        return right

    def _standardised(self, features: Tensor) -> Iterator[Tensor]:
        for x in features.split(CHUNK):
            yield (x.double() - self.mean) * self.scale

    def _standardised_columns(self, features: Tensor) -> Iterator[Tensor]:
        for x, mean, scale in zip(features.split(CHUNK, 1), self.mean.split(CHUNK), self.scale.split(CHUNK)):
            yield (x.double() - mean) * scale


def draw_labelled(labels: Tensor, per_class: int | None, seed: int = 0) -> Tensor:
    """Draw the same number of images of each class; smaller draws of a seed are parts of its larger ones.

    Args:
        labels: (N,), int64.
        per_class: Images of each class; a class that has fewer gives all. ``None`` stands for all images.

    Returns:
        Their numbers (M,), in order.
    """
    if per_class is None:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    labels = labels.cpu()[order]
    drawn = [order[labels == label][:per_class] for label in labels.unique()]
    return torch.cat(drawn).sort().values
