"""Signs of collapse that need no labels: how many directions features use, and how many channels say nothing."""

import torch
from torch import Tensor

DEAD = 0.01  # deviation of a channel, over that of all, below which it says nothing


def rankme(features: Tensor) -> float:
    """Return the effective rank of features (N, C), between 1 and min(N, C).

    The exponential of the entropy of the singular values, divided by their sum (RankMe, Garrido et al., ICML 2023).
    """
    weights = torch.linalg.svdvals(features.float())
    weights = weights / weights.sum() + 1e-7
    return (-(weights * weights.log()).sum()).exp().item()


def dead_channels(features: Tensor) -> float:
    """Return the fraction of channels of features (N, C) that hardly differ from one of the N to another.

    A channel is dead if its standard deviation is 1 % of the root mean square of all channels' or less.
    """
    deviation = features.float().std(0, unbiased=False)
    return (deviation <= DEAD * deviation.square().mean().sqrt()).float().mean().item()
