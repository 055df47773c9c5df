"""Pictures of what a classifier gets wrong, while it is fine-tuned."""

from typing import Any

import numpy as np
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils.paths import short_path
from ...visualization.classification import draw_confusion, draw_mistakes
from ...visualization.figures import shorten
from ..common import leaf_datasets
from ..runner.failures import tolerate
from ..runner.loggers import log_picture

MISTAKES = 12  # in the picture, at most
METRIC = 'accuracy/top1'


@HOOKS.register_module()
class MistakesHook(Hook):
    """Draws the confusion matrix and the worst mistakes of the best checkpoint, and prints each accuracy.

    The pictures, ``confusion`` and ``mistakes``, go to the loggers and into the run's ``report.html``. A mistake is the
    worse the surer the classifier is of the wrong class. For classifiers of mmpretrain, whose best checkpoint is chosen
    by :data:`METRIC`.
    """

    priority = 'NORMAL'  # before the checkpoint hook notes the best metric

    def before_val(self, runner: Runner) -> None:
        self.rows: list[tuple] = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note class, class given, how sure of it, and file of each image."""
        for sample in outputs or ():
            score, guess = sample.pred_score.max(0)
            self.rows.append((sample.gt_label.item(), guess.item(), score.item(), sample.get('img_path')))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        dataset = runner.val_dataloader.dataset
        rows = collect_results(self.rows, len(dataset), 'cpu')
        value = (metrics or {}).get(METRIC)
        if rows is None or value is None:  # not the first process
            return
        best = runner.message_hub.get_info('best_score')
        is_best = best is None or value > best
        print(f'step {runner.iter}: {value:.1f} % right{", the best so far" if best and is_best else ""}', flush=True)
        if is_best:
            with tolerate(runner, 'drawing mistakes'):
                self.draw(runner, dataset, rows)

    def draw(self, runner: Runner, dataset: Any, rows: list[tuple]) -> None:
        classes = dataset.metainfo.get('classes') or []
        counts = np.zeros((len(classes), len(classes)), int)
        np.add.at(counts, tuple(np.array([row[:2] for row in rows]).T), 1)
        log_picture(runner, 'confusion', draw_confusion(counts, classes), runner.iter)
        worst = sorted((row for row in rows if row[0] != row[1] and row[3]), key=lambda row: -row[2])
        worst = worst[:MISTAKES]
        if worst:
            pipeline = leaf_datasets(dataset)[0].pipeline
            inputs = [pipeline(dict(img_path=path, gt_label=label))['inputs'] for label, *_, path in worst]
            labels = [
                f'{shorten(classes[label], 22)}, taken for\n{shorten(classes[guess], 18)} ({score:.0%})\n'
                f'{shorten(short_path(path).rpartition("/")[2], 24)}'
                for label, guess, score, path in worst
            ]
            picture = draw_mistakes([one.permute(1, 2, 0).numpy() for one in inputs], labels)
            log_picture(runner, 'mistakes', picture, runner.iter)
