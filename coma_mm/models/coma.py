"""CoMA: two branches see complementary parts of an image; together they reconstruct all of it.

Shapes: B images, H x W pixels, C channels (of an image or of a stage), U = Hu * Wu units. n units are hidden from the
adaptive branch and seen by the evaluation branch. K units are seen by a branch, t tokens along a unit's side in some
stage, L values of a unit in the last stage, V values of a unit's pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.arguments import require_flag, require_number
from ..utils.environment import has_fast_bf16
from .alignment import beginning_loss, jitter_colours
from .attention import identity
from .compiled import compile_blocks
from .evaluation_branch import ONE_BRANCH, build_evaluation
from .mask_units import MaskedUnits, hidden_mask, read_masked_units, take_units
from .pixel_target import PixelTarget, unit_errors

# The tokens of one branch per stage, and the units that they are of.
Seen = tuple[tuple[Tensor, ...], Tensor]


@MODELS.register_module()
class CoMA(BaseModel):
    """Self-supervised pre-training by complementary masking (the paper's method).

    One step: the adaptive branch encodes the units visible to it and, with the decoder, predicts those hidden from it.
    The evaluation branch, a frozen copy of the encoder, encodes exactly the hidden ones. With the same decoder it
    predicts the rest. So each unit is predicted once, by the branch that did not see it. The loss is the mean squared
    error over all units. On CPUs that multiply in bf16 the evaluation branch does so in training, which moves losses
    by less than 0.001.

    Gradients reach the encoder through the adaptive branch alone, and the decoder through both. In the paper's setting
    (``copy`` at every step) the evaluation branch has the encoder's own weights. The encoder's gradient is then that of
    plain masked autoencoding (``off``) times the fraction of hidden units, n / U. The evaluation branch acts on the
    encoder through the decoder that it trains. "Each pixel is supervised at every step" is true of the decoder.

    The interface is that of mmpretrain's self-supervised algorithms; only torch and mmengine are needed.

    Args:
        backbone: config or module of an encoder: ``forward(images, ids_keep)`` returns per stage the
            ``(B, K * t * t, C)`` tokens of the visible units. ``unit_size`` is the unit's side in pixels, and
            ``unit_channels`` are the values ``t * t * C`` per unit of each stage. ``in_channels`` are the image's
            channels (3 if absent), ``extra_tokens`` the tokens of no unit that come before the others (0 if absent).
        decoder: config or module, :class:`.decoders.ViTDecoder` or like it. ``in_channels``, ``out_channels`` and
            ``extra_tokens`` follow from the backbone and need not be given.
        evaluation: the evaluation branch's weights. ``dict(mode='copy')`` (paper): the current encoder's at every step,
            which needs no second set of weights. ``dict(mode='copy', interval=k)``: a second model, renewed every k
            iterations. ``dict(mode='ema', momentum=0.004)``: a moving average, ``momentum`` being the share of the new
            weights. ``dict(mode='off')``: no evaluation branch, plain masked autoencoding, the baseline.
            Iterations are forward passes: under gradient accumulation each counts.
            ``dict(mode='align', weight=0.25, jitter=0.4)``: what the evaluation branch sees is not decoded. The
            mean tokens of both branches are to be alike, see :class:`.alignment.Alignment`, in training only.
            ``jitter`` changes the colours of each branch's image, so that these give nothing away. ``interval`` and
            ``momentum`` are as above.
            ``dict(mode='frozen', encoder=..., weight=10.0, mean=None, std=None)``: another network with weights of its
            own, the teacher, sees the whole image. What it sees in each unit is predicted beside the pixels, in
            training only, see :class:`.distillation.Distillation`. It is any backbone that returns maps. ``mean`` and
            ``std`` of pixels are those that the teacher takes.
        norm_pix: predict pixels normalised by their unit's mean and deviation.
        fuse_stages: decode from all stages instead of the last; sets the backbone config's ``out_indices`` to all four.
        predict_visible: weight of a further task of the adaptive branch: the decoder also predicts the units
            that the branch saw. Only with the modes ``off``, ``align`` and ``frozen``; 0 is masked autoencoding.
        keep_apart: weight of a term that keeps the mean tokens of images apart in the first tenth of a run, where they
            would become alike, see :func:`.alignment.beginning_loss`. With the same modes, in training only.
        compile: ``torch.compile`` each block of encoder and decoder, ``True`` or a dict of its options. The same
            results to rounding and the same checkpoints; the first step takes a minute or two.
        data_preprocessor: config or module, usually ``mmpretrain.SelfSupDataPreprocessor``.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: on an unknown evaluation mode or option, or a backbone that works in windows. Also on
            ``fuse_stages`` with a backbone of one stage, on several ``out_indices`` without it, and on
            ``predict_visible`` or ``keep_apart`` where two branches are decoded.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        decoder: dict | nn.Module,
        evaluation: dict | None = None,
        norm_pix: bool = True,
        fuse_stages: bool = False,
        predict_visible: float = 0.0,
        keep_apart: float = 0.0,
        compile: bool | dict = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        own_terms = dict(predict_visible=predict_visible, keep_apart=keep_apart)
        require_number('[0, inf)', **own_terms)
        require_flag(norm_pix=norm_pix, fuse_stages=fuse_stages)
        if not isinstance(backbone, nn.Module):
            if fuse_stages:
                backbone = {**backbone, 'out_indices': (0, 1, 2, 3)}
            backbone = MODELS.build(backbone)
        self.backbone = backbone
        _check_backbone(backbone, fuse_stages)
        self.unit_size = backbone.unit_size
        implied = dict(
            in_channels=tuple(backbone.unit_channels if fuse_stages else backbone.unit_channels[-1:]),
            out_channels=getattr(backbone, 'in_channels', 3) * self.unit_size**2,
            extra_tokens=getattr(backbone, 'extra_tokens', 0),
        )
        if not isinstance(decoder, nn.Module):
            decoder = MODELS.build({**implied, **decoder})
        for name, value in implied.items():
            if getattr(decoder, name, value) != value:
                raise ValueError(
                    f'decoder.{name}={getattr(decoder, name)} does not fit the backbone {type(backbone).__name__}, '
                    f'which means {value}: leave it out of the config'
                )
        self.decoder = decoder
        self.fuse_stages = fuse_stages
        self.target = PixelTarget(self.unit_size, norm_pix)
        built = build_evaluation(self, evaluation or {})
        self.evaluation_mode, self.evaluation, self.alignment, self.distillation = built
        if (given := [name for name, weight in own_terms.items() if weight]) and self.evaluation_mode not in ONE_BRANCH:
            raise ValueError(
                f'{", ".join(given)} goes with evaluation mode {", ".join(ONE_BRANCH)} only, where one branch is '
                f'decoded, not with {self.evaluation_mode!r}'
            )
        self.predict_visible, self.keep_apart = predict_visible, keep_apart
        compile_blocks(self, compile)

    def forward(
        self, inputs: Tensor, data_samples: Sequence | dict | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Compute features (``mode='tensor'``) or losses (``mode='loss'``), the entry of mmengine's runner."""
        if mode == 'tensor':
            return self.extract_feat(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise RuntimeError(f"CoMA has the modes 'tensor' and 'loss', got {mode!r}")

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's maps of whole images ``(B, C, H, W)``."""
        return self.backbone(inputs)

    def loss(self, inputs: Tensor, data_samples: Sequence | dict | None) -> dict[str, Tensor]:
        """Reconstruct a batch.

        Args:
            inputs: normalised images ``(B, C, H, W)``.
            data_samples: which units are masked, see :func:`.mask_units.read_masked_units`.

        Returns:
            ``loss_adaptive`` and ``loss_evaluation``, whose sum is the mean squared error over all units. Where one
            branch alone is decoded, ``loss_adaptive`` over the hidden ones. Beside them ``loss_visible``,
            ``loss_apart``, ``loss_align`` and ``loss_teacher`` where they are asked for, and for the log each branch's
            own mean ``mse_*``.

        Raises:
            ValueError: if masks are missing or do not fit the images.
        """
        masked = read_masked_units(inputs, data_samples, self.unit_size)
        if self.training and self.evaluation is not None:
            self.evaluation.update_parameters(self.backbone)
        if self.evaluation_mode in ONE_BRANCH:
            return self._loss_of_adaptive_branch(inputs, masked)
        seen = [self._adaptive_branch(inputs, masked), self._evaluation_branch(inputs, masked)]
        errors = unit_errors(self._decode(seen, masked), self.target(inputs))
        hidden = hidden_mask(masked)
        adaptive, evaluation = (errors * hidden).mean(), (errors * ~hidden).mean()
        units = errors.shape[1]
        return dict(
            loss_adaptive=adaptive,
            loss_evaluation=evaluation,
            mse_adaptive=adaptive.detach() * (units / masked.ids_mask.shape[1]),
            mse_evaluation=evaluation.detach() * (units / masked.ids_keep.shape[1]),
        )

    def _loss_of_adaptive_branch(self, inputs: Tensor, masked: MaskedUnits) -> dict[str, Tensor]:
        """Return the losses where the adaptive branch alone is decoded."""
        alignment = self.alignment if self.training else None
        views = [jitter_colours(inputs, alignment.jitter) for _ in range(2)] if alignment else [inputs]
        seen = self._adaptive_branch(views[0], masked)
        losses = {}
        if self.keep_apart and self.training:
            losses['loss_apart'] = self.keep_apart * beginning_loss(self._last_tokens(seen).mean(1))
        if self.distillation and self.training:
            features = self._decode([seen], masked, self.decoder.features, every=True)
            losses['loss_teacher'] = self.distillation(features, inputs, masked.grid)
            wanted = features if self.predict_visible else take_units(features, masked.ids_mask)
            prediction = self.decoder.prediction(wanted)
        else:
            prediction = self._decode([seen], masked, every=self.predict_visible > 0)
        if self.predict_visible:
            errors = unit_errors(prediction, self.target(views[0]))
            adaptive, visible = (errors.gather(1, idx).mean() for idx in (masked.ids_mask, masked.ids_keep))
            losses['loss_visible'] = self.predict_visible * visible
        else:
            adaptive = unit_errors(prediction, self.target(views[0], masked.ids_mask)).mean()
        if alignment:
            halves = [seen, self._evaluation_branch(views[1], masked)]
            losses['loss_align'] = alignment(*(self._last_tokens(half).mean(1) for half in halves))
        return dict(loss_adaptive=adaptive, **losses, mse_adaptive=adaptive.detach())

    @torch.no_grad()
    def predict_units(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Predict each unit by the branch that did not see it, also where training has one branch only.

        Args:
            inputs: normalised images ``(B, C, H, W)``.
            mask: bool ``(B, Hu, Wu)``.

        Returns:
            ``(B, U, V)``, which compares with ``target(inputs)``.
        """
        masked = read_masked_units(inputs, dict(mask=mask), self.unit_size)
        with eval_mode(self):
            seen = [self._adaptive_branch(inputs, masked), self._evaluation_branch(inputs, masked)]
            return self._decode(seen, masked)

    def reconstruct(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Assemble the image that nobody saw whole from what :meth:`predict_units` returns.

        Returns:
            Normalised images ``(B, C, H, W)``; under ``norm_pix`` with each unit's true mean and deviation.
        """
        return self.target.to_image(self.predict_units(inputs, mask), inputs)

    def train(self, mode: bool = True) -> 'CoMA':
        """Set the mode; a second model of the evaluation branch stays in eval mode."""
        super().train(mode)
        if self.evaluation is not None:
            self.evaluation.eval()
        return self

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Place a parameter for layer-wise learning-rate decay, see the backbone's method."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    def _adaptive_branch(self, inputs: Tensor, masked: MaskedUnits) -> Seen:
        """Encode the units visible to the adaptive branch."""
        return self._stages(self.backbone(inputs, masked.ids_keep)), masked.ids_keep

    def _evaluation_branch(self, inputs: Tensor, masked: MaskedUnits) -> Seen:
        """Encode the other units, without gradient and in eval mode."""
        encoder = self.evaluation or self.backbone
        is_fast = self.training and inputs.device.type == 'cpu' and inputs.dtype == torch.float32 and has_fast_bf16()
        precision = torch.autocast('cpu', torch.bfloat16) if is_fast else nullcontext()
        # no_grad, not inference_mode: the decoder keeps these tokens for its own backward pass.
        with eval_mode(encoder), torch.no_grad(), precision:
            stages = self._stages(encoder(inputs, masked.ids_mask))
        return tuple(tokens.to(inputs.dtype) for tokens in stages), masked.ids_mask

    def _stages(self, tokens: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the tokens of the stages that are decoded: all, or the last."""
        return tokens if self.fuse_stages else tokens[-1:]

    def _decode(
        self, seen: list[Seen], masked: MaskedUnits, decoder: Callable | None = None, every: bool = False
    ) -> Tensor:
        """Decode in one call what one branch or both saw.

        Args:
            seen: of the adaptive branch, and of the evaluation branch if that is decoded, too.
            masked: which units each of them saw.
            decoder: called in place of the whole decoder, such as its ``features``.
            every: whether all units are wanted of the adaptive branch alone.

        Returns:
            ``(B, U, V)``: each unit as predicted by the branch that did not see it. Of the adaptive branch alone
            ``(B, n, V)``, the units hidden from it, or all of them, ``(B, U, V)``.
        """
        units = masked.grid[0] * masked.grid[1]

        def keep_hidden(x: Tensor) -> Tensor:
            return take_units(x, masked.ids_mask)

        def assemble(x: Tensor) -> Tensor:
            adaptive, evaluation = x.chunk(2)
            return torch.where(hidden_mask(masked)[..., None], adaptive, evaluation)

        filled = [self.decoder.append_mask_tokens(tokens, idx, units) for tokens, idx in seen]
        decoder = decoder or self.decoder
        if len(filled) == 1:
            return decoder(filled[0], masked.grid, identity if every else keep_hidden)
        return decoder(torch.cat(filled), masked.grid, assemble)

    def _last_tokens(self, seen: Seen) -> Tensor:
        """Return the values of a branch's units in the last stage, ``(B, K, L)``."""
        stages, idx = seen
        return stages[-1][:, getattr(self.backbone, 'extra_tokens', 0) :].reshape(*idx.shape, -1)


def _check_backbone(backbone: nn.Module, fuse_stages: bool) -> None:
    """Refuse a backbone that cannot be pre-trained, or whose stages do not go with ``fuse_stages``."""
    if getattr(backbone, 'attn_window', None):
        raise ValueError('attn_window is for whole images; pre-train with attn_window=None and set it downstream')
    if fuse_stages and len(backbone.unit_channels) == 1:
        raise ValueError(f'fuse_stages=True needs an encoder of several stages; {type(backbone).__name__} has one')
    stages = getattr(backbone, 'out_indices', ())
    if not fuse_stages and len(stages) > 1:
        raise ValueError(
            f'the decoder sees the last of out_indices={tuple(stages)} alone, so that norms of the others would learn '
            'nothing: set fuse_stages=True, or leave out_indices to its default'
        )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch a model to eval mode; restore each module's mode on exit."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
