"""CoMA: two branches see complementary parts of an image; together they reconstruct all of it.

Shapes: B images, U = Hu * Wu units, n of them hidden from the adaptive branch (and seen by the evaluation branch),
D decoder width, V pixels per unit.
"""

from collections.abc import Sequence
from contextlib import contextmanager

import torch
from mmengine.model import BaseAveragedModel, BaseModel, ExponentialMovingAverage
from torch import Tensor, nn

from ..masking import num_hidden, unit_grid
from ..registry import MODELS
from .compiled import compile_blocks
from .reconstruction import PixelTarget, unit_errors

EVALUATION_MODES = ('copy', 'ema', 'off', 'joint')


class PeriodicCopy(BaseAveragedModel):
    """A second model that takes over the first one's weights every ``interval`` updates."""

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Copy."""
        averaged_param.copy_(source_param)


@MODELS.register_module()
class CoMA(BaseModel):
    """Self-supervised pre-training by complementary masking (paper; details marked so below are ours).

    One step: the adaptive branch encodes the units visible to it and, with the decoder, predicts those hidden from it.
    The evaluation branch, a frozen copy of the encoder, encodes exactly those hidden ones and, with the same decoder,
    predicts the rest. So each unit is predicted once, by the branch that did not see it. The loss is the mean squared
    error over all units; gradients reach the encoder through the adaptive branch only, the decoder through both (ours).

    The interface is that of mmpretrain's self-supervised algorithms; only torch and mmengine are needed.

    Args:
        backbone: config or module of an encoder: ``forward(images, idx_visible)`` returns per stage the
            ``(B, K * t * t, C)`` tokens of the visible units; ``unit_size`` is the unit's side in pixels,
            ``unit_channels`` the values ``t * t * C`` per unit of each stage.
        decoder: config or module, :class:`.decoder.ViTDecoder` or like it. ``in_channels`` and ``out_channels`` follow
            from the backbone and need not be given.
        mask_ratio: share of units hidden from the adaptive branch, the same as in the ``ComplementaryMask`` transform.
        evaluation: the evaluation branch's weights. ``dict(mode='copy')`` (paper): the current encoder's at every step,
            which needs no second set of weights. ``dict(mode='copy', interval=k)``: a second model, renewed every k
            iterations. ``dict(mode='ema', momentum=0.004)``: a moving average, ``momentum`` being the share of the new
            weights. ``dict(mode='off')``: no evaluation branch, plain masked autoencoding, the baseline.
            ``dict(mode='joint')``: gradient through both branches, the upper reference. Iterations are forward passes:
            under gradient accumulation each counts.
        norm_pix: predict pixels normalised by their unit's mean and deviation.
        fuse_stages: decode from all four stages instead of the last; sets the backbone config's ``out_indices``.
        compile: ``torch.compile`` each block of encoder and decoder, ``True`` or a dict of its options. The same
            results to rounding and the same checkpoints; the first step takes a minute or two.
        data_preprocessor: config or module, usually ``mmpretrain.SelfSupDataPreprocessor``.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: on an unknown evaluation mode or option, a ratio outside (0, 1), a backbone that works in windows.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        decoder: dict | nn.Module,
        mask_ratio: float = 0.6,
        evaluation: dict | None = None,
        norm_pix: bool = True,
        fuse_stages: bool = False,
        compile: bool | dict = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio must lie between 0 and 1, got {mask_ratio}')
        self.mask_ratio = mask_ratio
        if not isinstance(backbone, nn.Module):
            if fuse_stages:
                backbone = {**backbone, 'out_indices': (0, 1, 2, 3)}
            backbone = MODELS.build(backbone)
        self.backbone = backbone
        if getattr(backbone, 'attn_window', None):
            raise ValueError('attn_window is for whole images; pre-train with attn_window=None and set it downstream')
        self.unit_size = backbone.unit_size
        if not isinstance(decoder, nn.Module):
            stages = backbone.unit_channels if fuse_stages else backbone.unit_channels[-1:]
            decoder = MODELS.build({'in_channels': stages, 'out_channels': 3 * self.unit_size**2, **decoder})
        self.decoder = decoder
        self.fuse_stages = fuse_stages
        self.target = PixelTarget(self.unit_size, norm_pix)
        self.norm_pix = norm_pix
        self.mode, self.evaluation = _build_evaluation(backbone, **(evaluation or {}))
        self._checked = set()
        compile_blocks(self, compile)

    def forward(self, inputs: Tensor, data_samples: Sequence | dict | None = None, mode: str = 'tensor'):
        """Compute features (``mode='tensor'``) or losses (``mode='loss'``), the entry of mmengine's runner."""
        if mode == 'tensor':
            return self.extract_feat(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise RuntimeError(f"CoMA has the modes 'tensor' and 'loss', got {mode!r}")

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's maps of whole images ``(B, 3, H, W)``."""
        return self.backbone(inputs)

    def loss(self, inputs: Tensor, data_samples: Sequence | dict) -> dict[str, Tensor]:
        """Reconstruct a batch.

        Args:
            inputs: normalised images ``(B, 3, H, W)``.
            data_samples: a data sample with ``mask`` (bool, ``(Hu, Wu)``, True = hidden from the adaptive branch) for
                each image, or a dict with ``mask`` ``(B, Hu, Wu)``.

        Returns:
            ``loss_adaptive`` and ``loss_evaluation``, whose sum is the mean squared error over all units (with
            evaluation off: ``loss_adaptive`` over the hidden ones), and each branch's own mean ``mse_*`` for the log.

        Raises:
            ValueError: if the images do not divide into units, or masks are missing, of another shape, or hide another
                number of units than ``mask_ratio`` says.
        """
        hidden = self._read_masks(inputs, data_samples)
        if self.training and self.evaluation is not None:
            self.evaluation.update_parameters(self.backbone)
        if self.mode == 'off':
            idx_visible, idx_hidden = self._divide(hidden)
            prediction = self._predict_hidden(inputs, idx_visible, idx_hidden)
            adaptive = unit_errors(prediction, self.target(inputs, idx_hidden)).mean()
            return dict(loss_adaptive=adaptive, mse_adaptive=adaptive.detach())
        errors = unit_errors(self._predict_all(inputs, hidden), self.target(inputs))
        adaptive, evaluation = (errors * hidden).mean(), (errors * ~hidden).mean()
        units, count = hidden.shape[1], self._num_hidden(hidden)
        return dict(
            loss_adaptive=adaptive,
            loss_evaluation=evaluation,
            mse_adaptive=adaptive.detach() * (units / count),
            mse_evaluation=evaluation.detach() * (units / (units - count)),
        )

    @torch.no_grad()
    def reconstruct(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Assemble the image that nobody saw whole: each unit as predicted by the branch that did not see it.

        Args:
            inputs: normalised images ``(B, 3, H, W)``.
            mask: bool ``(B, Hu, Wu)``.

        Returns:
            Normalised images ``(B, 3, H, W)``; under ``norm_pix`` with each unit's true mean and deviation.
        """
        training = self.training
        self.eval()
        hidden = self._read_masks(inputs, dict(mask=mask))
        assembled = self.target.to_image(self._predict_all(inputs, hidden), inputs)
        self.train(training)
        return assembled

    def train(self, mode: bool = True) -> 'CoMA':
        """Set the mode; a second model of the evaluation branch stays in eval mode."""
        super().train(mode)
        if self.evaluation is not None:
            self.evaluation.eval()
        return self

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Place a parameter for layer-wise learning-rate decay, see the backbone's method."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    def _predict_all(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Predict each unit by the branch that did not see it, ``(B, U, V)``."""
        grid = unit_grid(inputs.shape[-2:], self.unit_size)
        idx_adaptive, idx_evaluation = self._divide(hidden)
        adaptive = self._fill(self.backbone(inputs, idx_adaptive), idx_adaptive, grid)
        with self._evaluation_branch() as encoder:
            tokens = encoder(inputs, idx_evaluation)
        evaluation = self._fill(tokens, idx_evaluation, grid)

        def assemble(x: Tensor) -> Tensor:
            return torch.where(hidden[..., None], *x.chunk(2))

        return self.decoder(torch.cat([adaptive, evaluation]), grid, assemble)

    def _predict_hidden(self, inputs: Tensor, idx_visible: Tensor, idx_hidden: Tensor) -> Tensor:
        """Predict the hidden units alone, as plain masked autoencoding does, ``(B, n, V)``."""
        grid = unit_grid(inputs.shape[-2:], self.unit_size)
        filled = self._fill(self.backbone(inputs, idx_visible), idx_visible, grid)

        def take_hidden(x: Tensor) -> Tensor:
            return x.gather(1, idx_hidden[..., None].expand(-1, -1, x.shape[-1]))

        return self.decoder(filled, grid, take_hidden)

    def _divide(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the units that each branch sees, ``(B, U - n)`` and ``(B, n)``."""
        count = self._num_hidden(hidden)
        return hidden.byte().argsort(dim=1, stable=True).split((hidden.shape[1] - count, count), 1)

    def _fill(self, tokens: tuple[Tensor, ...], idx: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.decoder.fill(tokens if self.fuse_stages else tokens[-1:], idx, grid[0] * grid[1])

    @contextmanager
    def _evaluation_branch(self):
        """Lend the evaluation branch's encoder: without gradient and in eval mode, but for ``joint``."""
        if self.mode == 'joint':
            yield self.backbone
            return
        encoder = self.evaluation or self.backbone
        training = encoder.training
        encoder.eval()
        # no_grad, not inference_mode: the decoder keeps these tokens for its own backward pass.
        with torch.no_grad():
            yield encoder
        encoder.train(training)

    def _num_hidden(self, hidden: Tensor) -> int:
        return num_hidden(hidden.shape[1], self.mask_ratio)

    def _read_masks(self, inputs: Tensor, data_samples: Sequence | dict | None) -> Tensor:
        """Return the masks as bool ``(B, U)`` after checking them against the images."""
        grid = unit_grid(inputs.shape[-2:], self.unit_size)
        if isinstance(data_samples, dict):
            mask = data_samples.get('mask')
        else:
            masks = [sample.mask for sample in data_samples or () if 'mask' in sample]
            mask = torch.stack(masks) if masks else None
        if mask is None:
            raise ValueError(
                "the samples carry no mask; add dict(type='coma_mm.ComplementaryMask', ...) to the pipeline"
            )
        if mask.shape != (len(inputs), *grid):
            raise ValueError(
                f'masks of shape {tuple(mask.shape)} do not fit {len(inputs)} images of {inputs.shape[2]} x '
                f'{inputs.shape[3]} px, which have {grid[0]} x {grid[1]} units of {self.unit_size} px; set input_size '
                'and unit_size of ComplementaryMask to those of the images and the model'
            )
        hidden = mask.to(inputs.device, torch.bool).flatten(1)
        # Counting waits for the device: free on the CPU, elsewhere done only once per shape.
        if hidden.device.type == 'cpu' or hidden.shape[1] not in self._checked:
            self._checked.add(hidden.shape[1])
            expected, counts = self._num_hidden(hidden), hidden.sum(1).unique().tolist()
            if counts != [expected]:
                raise ValueError(
                    f'masks hide {counts} of {hidden.shape[1]} units, but mask_ratio={self.mask_ratio} of the model '
                    f'means {expected}; give ComplementaryMask the same ratio'
                )
        return hidden


def _build_evaluation(
    encoder: nn.Module, mode: str = 'copy', interval: int = 1, momentum: float | None = None
) -> tuple[str, BaseAveragedModel | None]:
    """Check the evaluation options; build a second model where the mode needs one."""
    if mode not in EVALUATION_MODES:
        raise ValueError(f'evaluation mode must be one of {", ".join(EVALUATION_MODES)}, got {mode!r}')
    if interval < 1 or (interval > 1 and mode in ('off', 'joint')):
        raise ValueError(
            f'evaluation interval must be >= 1 and goes with copy and ema only, got {interval} for {mode!r}'
        )
    if momentum is not None and mode != 'ema':
        raise ValueError(f"evaluation momentum goes with mode='ema' only, got {momentum} for {mode!r}")
    if mode == 'ema':
        return mode, ExponentialMovingAverage(encoder, 0.004 if momentum is None else momentum, interval).eval()
    if mode == 'copy' and interval > 1:
        return mode, PeriodicCopy(encoder, interval).eval()
    return mode, None
