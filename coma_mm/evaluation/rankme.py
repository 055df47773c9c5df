"""Signs of collapse that need no labels: the directions that features use, and the channels that say nothing."""

import torch
from torch import Tensor

DEAD = 0.01  # deviation of a channel, over that of all, at which it is dead


def rankme(features: Tensor) -> float:
    """Return the effective rank of features (N, C), between 1 and min(N, C).

    It is the exponential of the entropy of singular values, whose sum is made 1 (RankMe, Garrido et al., ICML 2023).
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
