"""How good a reconstruction is, in decibels, and the trivial guess it has to beat.

Shapes: images (B, C, H, W) in [0, 1], of any number of channels C; mask (B, H / unit, W / unit), bool, True = hidden
from the adaptive branch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of each image of the batch: (B,)."""
    error = (images - others).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


def mean_colour_baseline(images: Tensor, mask: Tensor, unit_size: int) -> Tensor:
    """Fill each unit with the mean colour of its visible neighbours: what a branch can say without having learnt.

    A unit belongs to the branch that did not see it, so its visible neighbours are those of the eight around it with
    the other value in ``mask``, which are the ones that branch saw. Where there are none, it gets the mean of all units
    that branch saw.
    """
    colour = F.avg_pool2d(images, unit_size)
    hidden = mask[:, None].to(images.dtype)
    # With the centre left in the kernel nothing would change: a unit is never seen by the branch that predicts it.
    kernel = images.new_ones(1, 1, 3, 3)

    def fill_from(seen: Tensor) -> Tensor:
        weighted = torch.cat([colour * seen, seen], 1)
        groups = weighted.shape[1]
        sums = F.conv2d(weighted, kernel.expand(groups, 1, 3, 3), padding=1, groups=groups)
        totals = weighted.sum((2, 3), keepdim=True)
        sums = torch.where(sums[:, -1:] > 0, sums, totals)
        return sums[:, :-1] / sums[:, -1:].clamp_min(1)

    filled = torch.where(mask[:, None], fill_from(1 - hidden), fill_from(hidden))
    return filled.repeat_interleave(unit_size, 2).repeat_interleave(unit_size, 3)
