"""Ways for the evaluation branch to teach the encoder that were measured and are not part of the package.

Each but the last is CoMA in the mode ``off`` with one more loss, in training only. The evaluation branch has the
encoder's own weights and no gradient. docs/evidence.md, "What did not pay", has the results.

Shapes: B images, U units, n of them hidden, C channels of an encoder's token, D decoder width, P of a projection.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coma_mm.models import CoMA
from coma_mm.models.alignment import cosine_loss, gather_images, run_fraction
from coma_mm.models.coma import Seen
from coma_mm.models.mask_units import MaskedUnits, hidden_mask, sincos_positions, take_units
from coma_mm.models.pixel_target import unit_errors
from coma_mm.registry import MODELS

TEMPERATURE = 0.2
WIDTH, PROJECTED = 512, 128


@MODELS.register_module()
class UniformCoMA(CoMA):
    """Masked autoencoding with the uniformity term of U-MAE (Zhang et al., NeurIPS 2022): images are kept apart.

    Args:
        weight: of the mean squared cosine between the mean tokens of different images.
    """

    def __init__(self, *args: Any, weight: float = 0.01, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.weight = weight

    def _loss_of_adaptive_branch(self, inputs: Tensor, masked: MaskedUnits) -> dict[str, Tensor]:
        seen = self._adaptive_branch(inputs, masked)
        losses = _pixel_loss(self, self._decode([seen], masked), inputs, masked)
        if self.training:
            means = gather_images(self._last_tokens(seen).mean(1)).float()
            losses['loss_uniform'] = self.weight * cosine_loss(means)
        return losses


@MODELS.register_module()
class ContrastCoMA(CoMA):
    """The decoder tells which image a hidden unit is from: its token against those of the evaluation branch (InfoNCE).

    Negatives are the same unit of the other images of the batch in which it is hidden, too.

    Args:
        weight: of the loss, reached after a tenth of the run.
    """

    def __init__(self, *args: Any, weight: float = 0.5, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.weight = weight
        self.of_prediction = _projector(self.decoder.dim)
        self.of_token = _projector(self.backbone.unit_channels[-1])

    def _loss_of_adaptive_branch(self, inputs: Tensor, masked: MaskedUnits) -> dict[str, Tensor]:
        features = self._decode([self._adaptive_branch(inputs, masked)], masked, self.decoder.features)
        losses = _pixel_loss(self, self.decoder.prediction(features), inputs, masked)
        if self.training:
            tokens = self._last_tokens(self._evaluation_branch(inputs, masked))
            pairs = [self._by_unit(self.of_prediction(features), masked), self._by_unit(self.of_token(tokens), masked)]
            alike = torch.einsum('bup,cup->ubc', *pairs) / TEMPERATURE
            hidden = hidden_mask(masked).T  # U, B
            alike = alike.masked_fill(~hidden[:, None], -torch.inf)[hidden]
            own = torch.arange(len(inputs), device=inputs.device).expand_as(hidden)[hidden]
            losses['loss_contrast'] = self.weight * run_fraction(0.1) * F.cross_entropy(alike, own)
        return losses

    def _by_unit(self, projections: Tensor, masked: MaskedUnits) -> Tensor:
        """Put normalised projections of hidden units in their places, ``(B, n, P)`` to ``(B, U, P)``."""
        projections = F.normalize(projections.float(), dim=-1)
        idx = masked.ids_mask[..., None].expand_as(projections)
        units = masked.grid[0] * masked.grid[1]
        return projections.new_zeros(len(idx), units, projections.shape[-1]).scatter(1, idx, projections)


@MODELS.register_module()
class LatentCoMA(CoMA):
    """Tokens of hidden units are predicted first, and pixels from these predictions alone (as in CAE, Chen et al.).

    One block of cross-attention predicts. Its target are the evaluation branch's tokens, standardised over the batch.

    Args:
        weight: of the loss, reached after a quarter of the run.
    """

    def __init__(self, *args: Any, weight: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.weight = weight
        dim = self.decoder.dim
        self.regressor = _CrossBlock(dim)
        self.head = nn.Linear(dim, self.backbone.unit_channels[-1])

    def _loss_of_adaptive_branch(self, inputs: Tensor, masked: MaskedUnits) -> dict[str, Tensor]:
        latent = self._predict(self._adaptive_branch(inputs, masked), masked.ids_mask, masked)
        losses = _pixel_loss(self, self._pixels(latent, masked.ids_mask, masked), inputs, masked)
        if self.training:
            target = self._last_tokens(self._evaluation_branch(inputs, masked)).float()
            target = (target - target.mean((0, 1))) / (target.std((0, 1)) + 1e-4)
            target = F.layer_norm(target, target.shape[-1:])
            fraction = run_fraction(0.25)
            losses['loss_latent'] = self.weight * fraction * F.mse_loss(self.head(latent).float(), target)
        return losses

    def _decode(
        self, seen: list[Seen], masked: MaskedUnits, decoder: Callable | None = None, every: bool = False
    ) -> Tensor:
        """Predict what each branch did not see; both branches only outside training."""
        others = masked.ids_mask, masked.ids_keep
        parts = [self._pixels(self._predict(one, idx, masked), idx, masked) for one, idx in zip(seen, others)]
        if len(parts) == 1:
            return parts[0]
        order = torch.cat(others, 1).argsort(1)
        return take_units(torch.cat(parts, 1), order)

    def _predict(self, seen: Seen, wanted: Tensor, masked: MaskedUnits) -> Tensor:
        """Return a token ``(B, K, D)`` for each wanted unit from the tokens of the units that a branch saw."""
        (tokens,), idx = seen
        positions = self._positions(masked)
        embedded = self.decoder.embeddings[0](tokens.reshape(*idx.shape, -1)) + positions[idx]
        return self.regressor(self.decoder.mask_token + positions[wanted], embedded)

    def _pixels(self, latent: Tensor, idx: Tensor, masked: MaskedUnits) -> Tensor:
        x = latent + self._positions(masked)[idx]
        for block in self.decoder.blocks:
            x = block(x)
        return self.decoder.prediction(self.decoder.norm(x))

    def _positions(self, masked: MaskedUnits) -> Tensor:
        weight = self.decoder.mask_token
        return sincos_positions(masked.grid, 1, self.decoder.dim, device=weight.device, dtype=weight.dtype)[:, 0]


@MODELS.register_module()
class CroppedCoMA(CoMA):
    """CoMA in the mode ``align`` where the evaluation branch sees its units of a smaller crop, half of them mirrored.

    Args:
        crop: least share of the image's area in that crop.
    """

    def __init__(self, *args: Any, crop: float = 0.2, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.crop = crop

    def _evaluation_branch(self, inputs: Tensor, masked: MaskedUnits) -> Seen:
        return super()._evaluation_branch(_crop_again(inputs, self.crop) if self.training else inputs, masked)


def _crop_again(images: Tensor, least: float) -> Tensor:
    """Cut a part of each image, of the image's shape, mirror it or not, and scale it to the image's size."""
    share, x, y, mirror = torch.rand(4, len(images), device=images.device, dtype=images.dtype)
    side = (least + (1 - least) * share).sqrt()
    x, y = ((1 - side) * (2 * place - 1) for place in (x, y))
    zero = torch.zeros_like(side)
    maps = torch.stack([torch.where(mirror < 0.5, side, -side), zero, x, zero, side, y], 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode='border', align_corners=False)


class _CrossBlock(nn.Module):
    """Pre-norm block in which tokens ``(B, K, D)`` attend to others ``(B, M, D)``."""

    def __init__(self, dim: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attn = nn.MultiheadAttention(dim, max(1, dim // 32), batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        others = self.norms[1](others)
        x = x + self.attn(self.norms[0](x), others, others, need_weights=False)[0]
        return x + self.mlp(self.norms[2](x))


def _projector(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (channels, WIDTH):
        layers += [nn.Linear(width, WIDTH), nn.LayerNorm(WIDTH), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, PROJECTED))


def _pixel_loss(model: CoMA, prediction: Tensor, inputs: Tensor, masked: MaskedUnits) -> dict[str, Tensor]:
    loss = unit_errors(prediction, model.target(inputs, masked.ids_mask)).mean()
    return dict(loss_adaptive=loss, mse_adaptive=loss.detach())
