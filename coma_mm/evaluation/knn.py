"""What frozen features are worth, without training anything on them: a k-nearest-neighbour classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def extract_features(model: nn.Module, images: Tensor, batch_size: int = 256, pool: bool = True) -> Tensor:
    """Return one feature vector per image, (N, features), from the last map of ``model.backbone``.

    Args:
        model: Anything with a ``backbone`` and, if the images need it, a ``data_preprocessor``.
        images: (N, 3, H, W), uint8, as pipelines hand them to the model.
        batch_size: Images per forward pass.
        pool: Average the map over its positions; otherwise all positions side by side, for images that are aligned.
    """
    training = model.training
    model.eval()
    features = []
    for batch in images.split(batch_size):
        last = model.backbone(model.data_preprocessor(dict(inputs=batch, data_samples=None))['inputs'])[-1]
        features.append(last.flatten(2).mean(2) if pool and last.dim() == 4 else last.flatten(1))
    model.train(training)
    return torch.cat(features)


def standardize(train_features: Tensor, test_features: Tensor) -> tuple[Tensor, Tensor]:
    """Bring each channel of the training features to mean 0 and deviation 1, and the test features along.

    Features of masked autoencoders have a large common part, which cosine similarity would see and nothing else; MAE's
    linear probe puts a BatchNorm before its classifier for the same reason.
    """
    deviation, mean = torch.std_mean(train_features, 0)
    return (train_features - mean) / (deviation + 1e-6), (test_features - mean) / (deviation + 1e-6)


@torch.no_grad()
def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    chunk_size: int = 1024,
) -> float:
    """Return the accuracy in percent of a weighted vote among the ``k`` nearest training features.

    Nearness is cosine similarity ``s``, a neighbour's vote weighs ``exp(s / temperature)``: the protocol of InstDisc
    and DINO. Queries go in chunks so that the similarity matrix stays small.
    """
    train_features, test_features = F.normalize(train_features, dim=1), F.normalize(test_features, dim=1)
    num_classes = int(train_labels.max()) + 1
    k = min(k, len(train_features))
    correct = 0
    for queries, labels in zip(test_features.split(chunk_size), test_labels.split(chunk_size), strict=True):
        similarity, nearest = (queries @ train_features.T).topk(k, dim=1)
        votes = queries.new_zeros(len(queries), num_classes)
        # Relative to the nearest one: exp(1 / temperature) itself would overflow at small temperatures.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes.scatter_add_(1, train_labels[nearest], weights)
        correct += int((votes.argmax(1) == labels).sum())
    return 100 * correct / len(test_labels)
