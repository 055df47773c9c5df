"""The target of each unit, the error of its prediction, and the way back to an image.

Shapes: B images, C channels, H x W pixels, U units of s x s pixels, K of them taken, V = C * s * s values of a unit in
the order (C, s, s).
"""

import torch
from torch import Tensor

from ..masking import unit_grid
from .mask_units import join_units, split_units


class PixelTarget:
    """The pixels of each unit, as they are or normalised per unit as in MAE.

    Args:
        unit_size: s.
        norm_pix: subtract each unit's mean and divide by its standard deviation, both over its V values.
    """

    def __init__(self, unit_size: int, norm_pix: bool = True):
        self.unit_size = unit_size
        self.norm_pix = norm_pix

    def __call__(self, image: Tensor, idx: Tensor | None = None) -> Tensor:
        """Return the targets of the units ``idx`` ``(B, K)`` or of all, ``(B, C, H, W)`` to ``(B, K, V)``."""
        units = split_units(image, self.unit_size, idx).flatten(2)
        if not self.norm_pix:
            return units
        mean, scale = _mean_and_scale(units)
        return (units - mean) / scale

    def to_image(self, prediction: Tensor, image: Tensor) -> Tensor:
        """Assemble predictions to an image.

        Args:
            prediction: ``(B, U, V)``.
            image: the original ``(B, C, H, W)``. Under ``norm_pix`` each unit's mean and deviation are taken from it:
                what was predicted is structure, not brightness.

        Returns:
            ``(B, C, H, W)`` in the value range of ``image``.
        """
        if self.norm_pix:
            mean, scale = _mean_and_scale(split_units(image, self.unit_size).flatten(2))
            prediction = prediction * scale + mean
        units = prediction.unflatten(-1, (image.shape[1], self.unit_size, self.unit_size))
        return join_units(units, unit_grid(image.shape[-2:], self.unit_size))


def _mean_and_scale(units: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each unit, ``(B, K, V)`` to ``(B, K, 1)`` twice."""
    variance, mean = torch.var_mean(units, -1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def unit_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Return each unit's mean squared error, ``(B, U, V)`` twice to ``(B, U)``, in float32 or better."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).square().mean(-1)
