"""What frozen features are worth, without training anything on them: a k-nearest-neighbour classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def extract_features(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Return one feature vector per image: the last map of ``model.backbone``, averaged over its positions.

    Args:
        model: Anything with a ``backbone`` and, if the images need it, a ``data_preprocessor``.
        images: (N, 3, H, W), uint8, as pipelines hand them to the model.
        batch_size: Images per forward pass.
    """
    training = model.training
    model.eval()
    features = []
    for batch in images.split(batch_size):
        last = model.backbone(model.data_preprocessor(dict(inputs=batch, data_samples=None))['inputs'])[-1]
        features.append(last.flatten(2).mean(2) if last.dim() == 4 else last)
    model.train(training)
    return torch.cat(features)


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
