"""How much a linear classifier makes of frozen features, in closed form: no learning rate, no chance.

Shapes: N labelled images to learn from, Q images to classify, C features of each, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 4096  # images that are standardised at once


class LinearProbe:
    """Ridge regression from standardised features to one-hot labels; the largest output is the class.

    The strength of the penalty is the one that classifies every tenth image best, after learning from the others.

    Args:
        features: (N, C).
        labels: (N,), int64.
        penalties: Strengths to choose from; each is multiplied by the number of images.

    Raises:
        ValueError: If there are fewer than ten images.
    """

    def __init__(self, features: Tensor, labels: Tensor, penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)):
        if len(features) < 10:
            raise ValueError(f'a linear probe needs ten labelled images or more, got {len(features)}')
        numbers = torch.arange(len(features), device=features.device)
        check, learn = numbers[::10], numbers[numbers % 10 != 0]
        targets = F.one_hot(labels.to(features.device)).float()
        deviation, self.mean = torch.std_mean(features, 0, unbiased=False)
        self.scale = 1 / (deviation + 1e-6)
        self.bias = targets[learn].mean(0)
        gram = moment = torch.zeros(())
        for chosen in learn.split(CHUNK):
            x = self._standardise(features[chosen])
            gram, moment = gram + x.T @ x, moment + x.T @ targets[chosen]
        identity = torch.eye(len(gram), device=gram.device) * len(learn)
        most = -1
        for penalty in penalties:
            weight = torch.linalg.solve(gram + penalty * identity, moment)
            correct = (self._predict(features[check], weight) == targets[check].argmax(1)).sum().item()
            if correct > most:
                most, self.weight, self.penalty = correct, weight, penalty

    def predict(self, features: Tensor) -> Tensor:
        """Classify (Q, C): (Q,)."""
        return self._predict(features, self.weight)

    def _predict(self, features: Tensor, weight: Tensor) -> Tensor:
        return torch.cat([(self._standardise(x) @ weight + self.bias).argmax(1) for x in features.split(CHUNK)])

    def _standardise(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale
