"""Loss of the evaluation mode ``frozen``: a teacher's tokens of the hidden units are predicted beside the pixels.

Shapes: B images of C x H x W values, n units hidden of each, D decoder width, T values that the teacher has of a unit,
k units of the teacher along a side of the encoder's unit.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.older_names import restore_older
from ..registry import MODELS
from ..utils.arguments import require_number
from ..utils.configs import list_configs
from .layers import initialize_linear
from .mask_units import MaskedUnits


class Distillation(nn.Module):
    """A linear head on the decoder, and the loss by which it predicts a teacher's tokens of the hidden units.

    The teacher sees these units alone. Its units may have another size than the encoder's: images are scaled so that a
    unit of the encoder is k x k of the teacher's. The target is the mean of their last tokens, normalised over its
    values (LayerNorm without weights). The loss is the mean squared error.

    The teacher is no part of the model. Checkpoints have only a checksum of its weights; an exported backbone has
    nothing of it. It is loaded at the first step of training, and not at all where nothing is trained.

    Args:
        teacher: an encoder, see :class:`.CoMA`.
        is_loaded: whether it has its weights already; otherwise its ``init_weights()`` loads them.
        weight: of the loss.
        dim: D.
        unit_size: side of the encoder's units in pixels.
        rescaling: factor and summand, ``(C, 1, 1)`` each, that turn the encoder's images into the teacher's.
    """

    checksum: Tensor

    def __init__(
        self,
        teacher: nn.Module,
        is_loaded: bool,
        weight: float,
        dim: int,
        unit_size: int,
        rescaling: tuple[Tensor, Tensor] | None,
    ):
        super().__init__()
        self._teacher = [teacher.requires_grad_(False).eval()]  # in a list, which hides it from the model
        self._needs_weights, self._is_known = not is_loaded, False  # known: loaded, and compared with the checksum
        self.weight, self.unit_size, self.rescaling = weight, unit_size, rescaling
        self.parts = max(1, unit_size // teacher.unit_size)
        self.head = nn.Linear(dim, teacher.unit_channels[-1])
        initialize_linear(self.head)
        self.register_buffer('checksum', torch.zeros((), dtype=torch.long))  # 0: not trained with any yet

    def forward(self, features: Tensor, images: Tensor, masked: MaskedUnits) -> Tensor:
        """Return the weighted loss.

        Args:
            features: the decoder's of the hidden units, from which their pixels are predicted, ``(B, n, D)``.
            images: as the encoder gets them, ``(B, C, H, W)``.
            masked: which units are hidden.

        Raises:
            FileNotFoundError: if the teacher's weights are not there.
            ValueError: if they are not those that the run began with, or the images have a size that it does not take.
        """
        target, prediction = self.encode(images, masked), self.head(features)
        with torch.autocast(images.device.type, enabled=False):
            dtype = torch.promote_types(prediction.dtype, torch.float32)
            target = F.layer_norm(target.to(dtype), target.shape[-1:])
            return self.weight * F.mse_loss(prediction.to(dtype), target)

    @torch.no_grad()
    def encode(self, images: Tensor, masked: MaskedUnits) -> Tensor:
        """Encode the hidden units by the teacher, and return the mean of each unit's tokens, ``(B, n, T)``."""
        teacher, k = self._teacher[0], self.parts
        if not self._is_known:
            self._load(teacher)
        rows, columns = (units * k for units in masked.grid)
        if getattr(teacher, 'patch_resolution', (rows, columns)) != (rows, columns):  # a ViT takes one size
            height, width = rows * teacher.unit_size, columns * teacher.unit_size
            raise ValueError(
                f'the teacher takes images of {" x ".join(map(str, teacher.img_size))} px and would get those of '
                f'{height} x {width} px: set evaluation.encoder.img_size={(height, width)}'
            )
        y, x = masked.ids_mask // masked.grid[1] * k, masked.ids_mask % masked.grid[1] * k
        inside = torch.arange(k, device=images.device)
        idx = ((y[..., None, None] + inside[:, None]) * columns + x[..., None, None] + inside).flatten(1)
        tokens = teacher.to(images)(self._prepare(images, teacher, rows, columns), idx)[-1]
        tokens = tokens[:, getattr(teacher, 'extra_tokens', 0) :]
        return tokens.reshape(*masked.ids_mask.shape, k * k, teacher.unit_channels[-1]).mean(2)

    def _prepare(self, images: Tensor, teacher: nn.Module, rows: int, columns: int) -> Tensor:
        """Return images with the values, the channels and the size that the teacher takes."""
        if self.rescaling is not None:
            factor, summand = (value.to(images) for value in self.rescaling)
            images = images * factor + summand
        images = images.expand(-1, getattr(teacher, 'in_channels', 3), -1, -1)  # grey ones for a teacher of colours
        size = rows * teacher.unit_size, columns * teacher.unit_size
        if tuple(images.shape[-2:]) == size:
            return images
        return F.interpolate(images, size, mode='bilinear', antialias=True)

    def _load(self, teacher: nn.Module) -> None:
        """Load the teacher's weights, and compare them with those that the run began with."""
        configs = list_configs(getattr(teacher, 'init_cfg', None))
        source = next((str(config['checkpoint']) for config in configs if config.get('checkpoint')), '')
        if self._needs_weights:
            try:
                with torch.random.fork_rng(devices=[]):  # a resumed run draws what one that never stopped draws
                    teacher.init_weights()
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"the teacher's weights {source} are not there: put them back, or name them by "
                    'model.evaluation.encoder.init_cfg.checkpoint=FILE'
                ) from None
            teacher.requires_grad_(False).eval()
        found = checksum(teacher)
        if self.checksum and self.checksum != found:
            raise ValueError(
                f"the teacher's weights {source} have changed since the run began: put back those it began with, or "
                'begin anew without --resume'
            )
        self.checksum.fill_(found)
        self._is_known = True


def checksum(module: nn.Module) -> int:
    """Return a number, above 0 and below 2**56, that stands for a module's weights and their older names."""
    digest = hashlib.sha256()
    for name, value in sorted(restore_older(module.state_dict()).items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return int.from_bytes(digest.digest()[:7], 'big') or 1


def build_distillation(
    model: nn.Module,
    encoder: dict | nn.Module | None = None,
    weight: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Distillation:
    """Check the options of ``frozen`` and build it.

    Args:
        model: a :class:`.CoMA` with backbone and decoder.
        encoder: config, with weights in its ``init_cfg``, or module of the teacher.
        weight: of the loss.
        mean: of the pixels that the teacher takes; as the model's if ``None``.
        std: their deviation.

    Raises:
        ValueError: if there is no teacher, no weights of it, or it does not go with the model.
    """
    require_number('(0, inf)', **{'evaluation weight': weight})
    if not hasattr(model.decoder, 'features'):
        raise ValueError(f"evaluation mode='frozen' goes with our decoders, not with a {type(model.decoder).__name__}")
    is_loaded = isinstance(encoder, nn.Module)
    if not is_loaded:
        encoder = _build_teacher(encoder)
    if getattr(encoder, 'attn_window', None) or not hasattr(encoder, 'unit_channels'):
        raise ValueError(
            f'the teacher {type(encoder).__name__} cannot encode some units of an image alone: it has to be a '
            'coma_mm.DyViT without attn_window, a coma_mm.MaskedViT, or an encoder of your own like them'
        )
    own, theirs = (getattr(one, 'in_channels', 3) for one in (model.backbone, encoder))
    if own not in (1, theirs):
        raise ValueError(f'the teacher takes images of {theirs} channels, and those of the run have {own}')
    rescaling = _find_rescaling(model.data_preprocessor, mean, std, theirs)
    return Distillation(encoder, is_loaded, weight, model.decoder.dim, model.unit_size, rescaling)


def _build_teacher(encoder: Any) -> nn.Module:
    """Build the teacher of a config, which has to name weights."""
    if not isinstance(encoder, dict):
        raise ValueError("evaluation mode='frozen' takes encoder=..., the teacher: its config, or a module")
    configs = list_configs(encoder.get('init_cfg'))
    if not encoder.get('pretrained') and not any(config.get('checkpoint') for config in configs):
        raise ValueError(
            'a teacher of random weights has nothing to teach: give evaluation.encoder the weights of a file, '
            "init_cfg=dict(type='coma_mm.Pretrained', checkpoint=FILE)"
        )
    with torch.random.fork_rng(devices=[]):  # the encoder's first weights are those without a teacher
        return MODELS.build(encoder)


def _find_rescaling(
    preprocessor: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Tensor, Tensor] | None:
    """Return factor and summand that turn the model's images into the teacher's; ``None`` if they are the same."""
    if mean is None and std is None:
        return None
    for name, numbers in dict(mean=mean, std=std).items():
        if not isinstance(numbers, (list, tuple)) or len(numbers) not in (1, channels):
            raise ValueError(f'evaluation {name} takes {channels} numbers, as many as the teacher has channels')
        for number in numbers:
            require_number('(-inf, inf)' if name == 'mean' else '(0, inf)', **{f'evaluation {name}': number})
    own = [getattr(preprocessor, name, None) for name in ('mean', 'std')]
    if own[0] is None or own[1] is None:
        raise ValueError("evaluation mean and std need a data_preprocessor that says the encoder's own")
    theirs = [torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1) for numbers in (mean, std)]
    factor, summand = own[1] / theirs[1], (own[0] - theirs[0]) / theirs[1]
    is_same = torch.allclose(factor, torch.ones(())) and torch.allclose(summand, torch.zeros(()))
    return None if is_same else (factor, summand)
