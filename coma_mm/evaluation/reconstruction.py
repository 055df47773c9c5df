"""Reconstructions of images: their PSNR, and that of a trivial guess that they have to beat.

Shapes: images (B, C, H, W) in [0, 1], of any number of channels C; mask (B, H / unit, W / unit), bool, True = hidden
from the adaptive branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.pixel_target import unit_errors
from .features import preprocess


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of each image of the batch: (B,)."""
    error = (images - others).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


def mean_colour_baseline(images: Tensor, mask: Tensor, unit_size: int) -> Tensor:
    """Fill each unit with the mean colour of its visible neighbours: what a branch can say without having learnt.

    The branch that predicts a unit sees the units with the other value in ``mask``. The neighbours are those among the
    eight around it. A unit without such neighbours gets the mean of all units that the branch saw.
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


@dataclass
class Reconstructions:
    """A batch of images and what a model made of them, on the CPU.

    Args:
        originals: (B, C, H, W), RGB, grey or of any number of channels, in [0, 1].
        assembled: The same of the assembled reconstruction: no unit was seen by the branch that predicted it.
        mask: (B, H / unit, W / unit), bool, True = hidden from the adaptive branch.
        unit_size: In pixels.
        errors: Mean squared error of each unit as the loss of training has it, ``(B, U)``.
        means: Under ``norm_pix``, where each unit's mean and deviation are taken from the original: an image of these
            means alone, ``(B, C, H, W)``. ``None`` if the model predicts pixels as they are.
    """

    originals: Tensor
    assembled: Tensor
    mask: Tensor
    unit_size: int
    errors: Tensor
    means: Tensor | None = None

    @cached_property
    def psnr(self) -> Tensor:
        """PSNR of the reconstruction in dB, ``(B,)``."""
        return psnr(self.originals, self.assembled)

    @cached_property
    def baseline(self) -> Tensor:
        """PSNR of a guess that needs no learning, in dB: (B,).

        The guess is the means that the model was given, or else the mean colour of each unit's visible neighbours.
        """
        guess = mean_colour_baseline(self.originals, self.mask, self.unit_size) if self.means is None else self.means
        return psnr(self.originals, guess)

    def summary(self) -> str:
        """Return one line on the average of all images."""
        return self._compare(self.psnr.mean(), self.baseline.mean())

    def report(self, names: Sequence[str]) -> str:
        """Return a line per image and one on their average."""
        pairs = zip(names, self.psnr, self.baseline, strict=True)
        lines = [f'{name}: {self._compare(*values)}' for name, *values in pairs]
        return '\n'.join([*lines, f'average of {len(lines)}: {self.summary()}'])

    def _compare(self, reconstruction: Tensor, baseline: Tensor) -> str:
        what = 'mean-colour baseline' if self.means is None else 'mean brightness of each unit alone'
        gain = round((reconstruction - baseline).item(), 1) + 0.0  # no -0.0
        return f'reconstruction {reconstruction:.1f} dB, {what} {baseline:.1f} dB: {gain:+.1f} dB'


def reconstruct_images(model: nn.Module, images: Tensor, mask: Tensor) -> Reconstructions:
    """Let a :class:`coma_mm.models.CoMA` reconstruct images.

    Args:
        images: (B, C, H, W), such as RGB, uint8, as pipelines hand them to the model's data preprocessor.
        mask: (B, H / unit, W / unit), bool, True = hidden from the adaptive branch.
    """
    inputs = preprocess(model, images).float()
    predicted, target = model.predict_units(inputs, mask.to(inputs.device)), model.target(inputs)
    originals, assembled = to_pixels(model, inputs), to_pixels(model, model.target.to_image(predicted, inputs))
    means = None
    if model.target.norm_pix:
        means = to_pixels(model, model.target.to_image(torch.zeros_like(target), inputs))
    errors = unit_errors(predicted, target).cpu()
    return Reconstructions(originals, assembled, mask.cpu(), model.unit_size, errors, means)


def to_pixels(model: nn.Module, normalised: Tensor) -> Tensor:
    """Return images as they were before the data preprocessor of a model, in [0, 1], on the CPU."""
    mean, std = (getattr(model.data_preprocessor, name, other) for name, other in (('mean', 0.0), ('std', 1.0)))
    return ((normalised.float() * std + mean) / 255).clamp(0, 1).cpu()
