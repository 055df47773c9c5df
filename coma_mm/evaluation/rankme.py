"""How many directions features use: a sign of collapse that needs no labels."""

import torch
from torch import Tensor


def rankme(features: Tensor) -> float:
    """Return the effective rank of features (N, C), between 1 and min(N, C).

    The exponential of the entropy of the singular values, divided by their sum (RankMe, Garrido et al., ICML 2023).
    """
    share = torch.linalg.svdvals(features.float())
    share = share / share.sum() + 1e-7
    return (-(share * share.log()).sum()).exp().item()
