"""Loss of the evaluation mode ``frozen``: a teacher's features of each unit are predicted beside the pixels.

Shapes: B images of C x H x W values, U = Hu * Wu units of each, D decoder width, T channels of the teacher's last map.
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
from .dyvit import DyViT


class Distillation(nn.Module):
    """A linear head on the decoder, and the loss by which it predicts what a teacher sees in each unit.

    The teacher sees whole images, and the decoder what the encoder makes of the visible units. The target of a unit is
    the mean of the teacher's last map over it, normalised over its values (LayerNorm without weights). The loss is the
    mean squared error over all units: the visible ones reach the encoder at once, as the first steps need.

    The teacher is no part of the model. Checkpoints have only a checksum of its weights; an exported backbone has
    nothing of it. It is loaded at the first step of training, and not at all where nothing is trained.

    Args:
        teacher: a backbone that returns maps, frozen and in eval mode.
        is_loaded: whether it has its weights already; otherwise its ``init_weights()`` loads them.
        weight: of the loss.
        dim: D.
        channels: T.
        rescaling: factor and summand, ``(C, 1, 1)`` each, that turn the encoder's images into the teacher's.
    """

    checksum: Tensor

    def __init__(
        self,
        teacher: nn.Module,
        is_loaded: bool,
        weight: float,
        dim: int,
        channels: int,
        rescaling: tuple[Tensor, Tensor] | None,
    ):
        super().__init__()
        self._teacher = [teacher]  # in a list, which hides it from the model
        self._needs_weights, self._is_known = not is_loaded, False  # known: loaded, and compared with the checksum
        self.weight, self.rescaling = weight, rescaling
        self.head = nn.Linear(dim, channels)
        nn.init.zeros_(self.head.weight)  # random weights would first undo what the encoder may know
        nn.init.zeros_(self.head.bias)
        self.register_buffer('checksum', torch.zeros((), dtype=torch.long))  # 0: not trained with any yet

    def forward(self, features: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the weighted loss.

        Args:
            features: the decoder's of all units, from which their pixels are predicted, ``(B, U, D)``.
            images: as the encoder gets them, ``(B, C, H, W)``.
            grid: ``(Hu, Wu)``.

        Raises:
            FileNotFoundError: if the teacher's weights are not there.
            ValueError: if they are not those that the run began with.
        """
        target, prediction = self.encode(images, grid), self.head(features)
        with torch.autocast(images.device.type, enabled=False):
            dtype = torch.promote_types(prediction.dtype, torch.float32)
            target = F.layer_norm(target.to(dtype), target.shape[-1:])
            return self.weight * F.mse_loss(prediction.to(dtype), target)

    @torch.no_grad()
    def encode(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the mean of the teacher's last map over each unit, ``(B, U, T)``."""
        teacher = self._teacher[0]
        if not self._is_known:
            self._load(teacher)
        if self.rescaling is not None:
            factor, summand = (value.to(images) for value in self.rescaling)
            images = images * factor + summand
        images = images.expand(-1, getattr(teacher, 'in_channels', 3), -1, -1)  # grey ones for a teacher of colours
        unit_size = teacher.unit_size if isinstance(teacher, DyViT) else None
        size = choose_size(getattr(teacher, 'img_size', images.shape[-2:]), unit_size, grid)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode='bilinear', antialias=True)
        return F.adaptive_avg_pool2d(last_map(teacher.to(images), images), grid).flatten(2).transpose(1, 2)

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
            _freeze(teacher)
        found = checksum(teacher)
        if self.checksum and self.checksum != found:
            raise ValueError(
                f"the teacher's weights {source} have changed since the run began: put back those it began with, or "
                'begin anew without --resume'
            )
        self.checksum.fill_(found)
        self._is_known = True


def choose_size(trained: int | Sequence[int], unit_size: int | None, grid: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that images are scaled to for a teacher: those that it was trained with.

    Args:
        trained: side or sides in pixels.
        unit_size: side of a DyViT's units. It gets larger images where it has fewer units than the encoder otherwise.
        grid: ``(Hu, Wu)``.
    """
    height, width = (trained, trained) if isinstance(trained, int) else trained
    if unit_size is None:
        return height, width
    return max(height, grid[0] * unit_size), max(width, grid[1] * unit_size)


def _freeze(teacher: nn.Module) -> nn.Module:
    teacher.requires_grad_(False)
    teacher.eval()  # on a line of its own: mmpretrain's backbones return nothing
    return teacher


def last_map(teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the last of the maps that a teacher returns of images."""
    found = teacher(images)
    return found[-1] if isinstance(found, (tuple, list)) else found


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
    weight: float = 10.0,
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
    encoder = _freeze(encoder if is_loaded else _build_teacher(encoder))
    own, theirs = (getattr(one, 'in_channels', 3) for one in (model.backbone, encoder))
    if own not in (1, theirs):
        raise ValueError(f'the teacher takes images of {theirs} channels, and those of the run have {own}')
    rescaling = _find_rescaling(model.data_preprocessor, mean, std, theirs)
    return Distillation(encoder, is_loaded, weight, model.decoder.dim, _count_channels(encoder, theirs), rescaling)


def _count_channels(teacher: nn.Module, channels: int) -> int:
    """Return the channels of a teacher's last map; refuse one that returns none."""
    size = choose_size(getattr(teacher, 'img_size', 224), None, (1, 1))
    parameter = next(teacher.parameters(), torch.empty(0))
    with torch.no_grad():
        found = last_map(teacher, parameter.new_zeros(1, channels, *size))
    if not isinstance(found, Tensor) or found.dim() != 4:
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f'the teacher {type(teacher).__name__} returns {shown} of an image, and no map (1, channels, height, '
            "width): of mmpretrain a ViT does with out_type='featmap', a ConvNeXt with gap_before_final_norm=False"
        )
    return found.shape[1]


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
