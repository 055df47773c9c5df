"""Loss of the evaluation mode ``align``: the mean tokens of both halves of an image become alike, and images apart.

Shapes: B images (of one process, or of all once they are gathered), C values of a token, P values of its projection.
Colours are changed on images of H x W pixels and C channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor, distributed, nn

from ..utils.arguments import require_number

HIDDEN, PROJECTED = 512, 64  # widths of the projector
COVARIANCE = 80.0  # weight of the mean squared covariance; distance and deviation have 1
BEGINNING = 0.1  # part of the run in which the weight of the squared cosines falls from 1 to 0
GREY = 0.2  # share of images without colour, at a jitter of 0.5 and more


class Alignment(nn.Module):
    """A projector, and the loss by which the mean tokens of both halves of an image become alike.

    The loss is the mean squared distance of their projections; that of the evaluation branch gets no gradient. Two
    terms of VICReg (Bardes et al., ICLR 2022) keep the projections apart from image to image: their standard deviations
    are to reach 1, their covariances 0. Statistics are of the images of all processes. A single image has none and is
    left out. The projector normalises, so it does not see that the tokens themselves become alike in the first steps:
    see :func:`beginning_loss`.

    Args:
        channels: C.
        weight: of the loss.
        jitter: of the colours, a different one for each half, see :func:`jitter_colours`.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, channels: int, weight: float = 0.25, jitter: float = 0.4):
        super().__init__()
        require_number('(0, inf)', **{'evaluation weight': weight})
        require_number('[0, 1]', **{'evaluation jitter': jitter})
        self.weight, self.jitter = weight, jitter
        layers: list[nn.Module] = []
        for width in (channels, HIDDEN):
            # Without running statistics: nothing is projected outside training.
            norm = nn.BatchNorm1d(HIDDEN, track_running_stats=False)
            layers += [nn.Linear(width, HIDDEN, bias=False), norm, nn.GELU()]
        self.projector = nn.Sequential(*layers, nn.Linear(HIDDEN, PROJECTED))

    def forward(self, adaptive: Tensor, evaluation: Tensor) -> Tensor:
        """Return the weighted loss of the halves' mean tokens, ``(B, C)`` each, of this process's images."""
        with torch.autocast(adaptive.device.type, enabled=False):
            dtype = self.projector[0].weight.dtype
            adaptive, evaluation = (gather_images(tokens.to(dtype)) for tokens in (adaptive, evaluation))
            if len(adaptive) < 2:
                return 0 * sum(part.sum() for part in (adaptive, *self.projector.parameters()))
            halves = self.projector(adaptive), self.projector(evaluation).detach()
            follower, leader = (half.to(torch.promote_types(dtype, torch.float32)) for half in halves)
            return self.weight * (F.mse_loss(follower, leader) + spread_loss(follower))


def spread_loss(projections: Tensor) -> Tensor:
    """Return how far projections ``(B, P)`` are from deviations of 1 and covariances of 0."""
    centred = projections - projections.mean(0)
    deviation = (centred.var(0) + 1e-4).sqrt()
    covariance = centred.T @ centred / (len(centred) - 1)
    between = covariance - covariance.diag().diag()
    return F.relu(1 - deviation).mean() + COVARIANCE * between.square().mean()


def beginning_loss(tokens: Tensor) -> Tensor:
    """Return the loss that keeps images apart in the first steps, by their mean tokens ``(B, C)`` of this process.

    It is the uniformity of U-MAE (Zhang et al., NeurIPS 2022), of the images of all processes, times a weight that
    falls from 1 to 0. Without it a decoder first learns the mean of all images, and the tokens become alike.
    """
    weight = 1 - run_fraction(BEGINNING)
    if not weight:  # no images are gathered in vain
        return tokens.new_zeros(())
    with torch.autocast(tokens.device.type, enabled=False):
        tokens = gather_images(tokens.to(torch.promote_types(tokens.dtype, torch.float32)))
        return weight * cosine_loss(tokens) if len(tokens) > 1 else 0 * tokens.sum()


def cosine_loss(tokens: Tensor) -> Tensor:
    """Return the mean squared cosine between the tokens ``(B, C)`` of different images."""
    tokens = F.normalize(tokens, dim=-1)
    cosines = tokens @ tokens.T
    others = len(tokens) * (len(tokens) - 1)
    return (cosines.square().sum() - cosines.diagonal().square().sum()) / others


def run_fraction(part: float) -> float:
    """Return how far a run is in its first ``part``, from 0 to 1; 1 where there is no runner."""
    hub = MessageHub.get_current_instance()
    step, steps = (hub.get_info(name) for name in ('iter', 'max_iters'))
    return 1.0 if step is None or not steps else min(1.0, (step + 1) / max(1.0, part * steps))


def jitter_colours(images: Tensor, strength: float) -> Tensor:
    """Change contrast, brightness, saturation and tint of each image, and leave some without colour.

    Args:
        images: normalised, ``(B, C, H, W)``.
        strength: 0 for no change. Contrast and saturation change by this share at most, brightness by as many
            deviations, and each channel by half as many.
    """
    if not strength:
        return images

    def draw(channels: int = 1) -> Tensor:
        return torch.rand(len(images), channels, 1, 1, device=images.device, dtype=images.dtype)

    def between(channels: int = 1) -> Tensor:
        return strength * (draw(channels) * 2 - 1)

    images = images * (1 + between()) + between()
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + between())
    images = images + 0.5 * between(images.shape[1])
    return torch.where(draw() < GREY * min(1, 2 * strength), images.mean(1, keepdim=True), images)


class _Gather(torch.autograd.Function):
    """Concatenation over all processes, with gradient. Newer versions of torch advise against torch's own."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(get_world_size())]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad.chunk(get_world_size())[get_rank()]


def gather_images(part: Tensor) -> Tensor:
    """Return the values ``(B, C)`` of the images of all processes, one after the other, with gradient."""
    return _Gather.apply(part) if get_world_size() > 1 else part
