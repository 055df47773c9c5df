"""The target of each unit, the error of its prediction, and the way back to an image.

Shapes: B images of C x H x W pixels, U units of s x s pixels, V = C * s * s pixels per unit in the order (C, s, s).
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
        units, mean, scale = self._statistics(image, idx)
        return (units - mean) / scale if self.norm_pix else units

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
            _, mean, scale = self._statistics(image)
            prediction = prediction * scale + mean
        units = prediction.unflatten(-1, (image.shape[1], self.unit_size, self.unit_size))
        return join_units(units, unit_grid(image.shape[-2:], self.unit_size))

    def _statistics(self, image: Tensor, idx: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        units = split_units(image, self.unit_size, idx).flatten(2)
        if not self.norm_pix:
            return units, None, None
        variance, mean = torch.var_mean(units, -1, keepdim=True)
        return units, mean, (variance + 1e-6).sqrt()


def unit_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Return each unit's mean squared error, ``(B, U, V)`` twice to ``(B, U)``, in float32 or better."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).square().mean(-1)
