"""Quality of a run, measured without labels on images it does not learn from."""

from collections.abc import Iterator

from mmengine.dist import master_only
from mmengine.runner import Runner

from ...evaluation import FewLabels, Validator
from ...models.compiled import uncompiled
from ...registry import HOOKS
from ...utils.arguments import require_number, require_whole
from ..common import read_loading, read_mask_ratio, unwrap, watched_dataset
from ..runner.periodic import PeriodicHook


@HOOKS.register_module()
class QualityHook(PeriodicHook):
    """Measures a :class:`coma_mm.models.CoMA` on held-out images with fixed masks, and says when a run has gone wrong.

    Logged are ``quality/loss`` of the adaptive branch and ``quality/loss_evaluation`` of the evaluation branch (they
    compare with ``mse_adaptive`` and ``mse_evaluation``). Beside them are ``quality/psnr`` and
    ``quality/psnr_assembled`` in dB, ``quality/rankme`` and ``quality/dead_channels``
    (:class:`coma_mm.evaluation.Validator`). With ``labels`` there is ``quality/probe`` in percent
    (:class:`coma_mm.evaluation.FewLabels`). All of it is computed in the precision of training, mixed where that is.
    What was measured travels with checkpoints.

    Each of these warnings comes once, when

    - RankMe falls below ``collapse`` of the most it has been: features collapse onto few directions;
    - the loss rises in ``patience`` measurements in a row while the training loss falls;
    - more than ``dead`` of the channels of the last map say nothing.

    Args:
        dataset: Config of the held-out images, of one size, see :func:`coma_mm.evaluation.load_images`. If ``None``,
            training images serve: collapse shows on them, learning by heart does not.
        num_images: Number of images, at equal distances.
        interval: Epochs (or iterations) between measurements, beside those after the first step and at the end.
        by_epoch: Whether ``interval`` counts epochs.
        collapse: Share of the highest RankMe.
        patience: Rises of the loss in a row.
        dead: Share of the channels.
        labels: Folder of labelled images for a linear probe with five labels a class; none if ``None``.
    """

    what = 'measuring the quality'
    first_after = 0.0  # after the first step, which shows that the run works: this may take longer

    def __init__(
        self,
        dataset: dict | None = None,
        num_images: int = 256,
        interval: int = 10,
        by_epoch: bool = True,
        collapse: float = 0.25,
        patience: int = 3,
        dead: float = 0.1,
        labels: str | None = None,
    ):
        super().__init__(interval, by_epoch)
        require_whole(1, num_images=num_images, patience=patience)
        require_number('[0, 1]', collapse=collapse, dead=dead)
        self.dataset, self.num_images = dataset, num_images
        self.collapse, self.patience, self.dead, self.labels = collapse, patience, dead, labels

    @master_only
    def before_train(self, runner: Runner) -> None:
        self.validator = Validator(
            watched_dataset(runner, self.dataset),
            self.num_images,
            read_mask_ratio(runner.cfg),
            batch=runner.train_dataloader.batch_size,
        )
        self.few_labels: FewLabels | None = None
        if self.labels is not None:
            height, width = self.validator.images.shape[2:]
            self.few_labels = FewLabels(self.labels, (height, width), read_loading(runner.cfg), self.validator.batch)
        self.state = runner.message_hub.get_info('quality') or dict(measured=[], warnings=[])
        runner.message_hub.update_info('quality', self.state)

    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        model = unwrap(runner.model)
        if not self.state['measured']:
            runner.logger.info(f'{self.what} for the first time ...')  # a large model on a CPU takes minutes
        with uncompiled(model), runner.optim_wrapper.optim_context(model):
            values: dict[str, float | None] = {
                **self.validator.measure(model),
                **self.validator.measure_features(model),
            }
            if self.few_labels:
                values['probe'] = self.few_labels.measure(model)
        runner.visualizer.add_scalars({f'quality/{key}': value for key, value in values.items()}, step)
        # an encoder of one's own need not say more than the channels of its units
        channels = getattr(model.backbone, 'out_channels', model.backbone.unit_channels)[-1]
        count = len(self.validator.images)
        what = 'held-out' if self.dataset else 'training'
        runner.logger.info(
            f'{count} {what} images: loss {values["loss"]:.4f}, PSNR {values["psnr_assembled"]:.1f} dB, RankMe '
            f'{values["rankme"]:.1f} of {min(count, channels)}, dead channels {values["dead_channels"]:.1%}'
            + (f', probe with 5 labels a class {values["probe"]:.1f} %' if 'probe' in values else '')
        )
        measured = self.state['measured']
        values |= dict(step=step, train_loss=_train_loss(runner, step - (measured[-1]['step'] if measured else 0)))
        measured.append(values)
        for kind, sentence in self._problems(what):
            if kind not in [known for known, _ in self.state['warnings']]:
                self.state['warnings'].append((kind, sentence))
                runner.logger.warning(sentence)

    def _problems(self, what: str) -> Iterator[tuple[str, str]]:
        """Yield kind and description of what has gone wrong."""
        measured = self.state['measured']
        now, most = measured[-1], max(values['rankme'] for values in measured)
        if now['rankme'] < self.collapse * most:
            yield (
                'collapse',
                f'the features collapse: RankMe of {what} images has fallen from {most:.1f} to {now["rankme"]:.1f} '
                f'after {now["step"]} iterations; it often rises again; if not, train longer or '
                'with half the rate (--lr, or optim_wrapper.optimizer.lr of a config)',
            )
        last = measured[-self.patience - 1 :]
        rising = all(one['loss'] < next_one['loss'] for one, next_one in zip(last, last[1:]))
        trained = [values['train_loss'] for values in last if values['train_loss'] is not None]
        if len(last) > self.patience and rising and len(trained) > 1 and trained[-1] < trained[0]:
            yield (
                'rising',
                f'the loss on {what} images has risen {self.patience} times in a row, from {last[0]["loss"]:.4f} to '
                f'{now["loss"]:.4f} after {now["step"]} iterations, while the training loss fell from '
                f'{trained[0]:.4f} to {trained[-1]:.4f}: the model learns its training images by heart; more images, '
                'smaller crops (--crop-scale, or crop_ratio_range of a config) or a shorter run help',
            )
        if now['dead_channels'] > self.dead:
            yield (
                'dead channels',
                f'{now["dead_channels"]:.0%} of the channels of the last map have the same value in all {what} images '
                f'after {now["step"]} iterations: they are dead; half the rate (--lr, or optim_wrapper.optimizer.lr of '
                'a config) keeps them alive',
            )


def _train_loss(runner: Runner, iterations: int) -> float | None:
    """Return the mean training loss of the last iterations, as far as it has been handed over."""
    if iterations < 1 or 'train/loss' not in runner.message_hub.log_scalars:
        return None
    history = runner.message_hub.get_scalar('train/loss')
    return float(history.mean(min(iterations, len(history.data[0])))) if len(history.data[0]) else None
