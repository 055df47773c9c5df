"""Pictures of the features while a model trains."""

import torch
from mmengine.dist import master_only
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils.arguments import require_whole
from ...visualization import compute_features, draw_features, draw_neighbours
from ..common import unwrap, watched_dataset
from ..runner.loggers import log_picture
from ..runner.periodic import PeriodicHook
from .reconstruction import draw_items, name_of


@HOOKS.register_module()
class FeaturesHook(PeriodicHook):
    """Draws what each stage tells apart and where it looks, and which images the features find alike.

    The pictures, ``features`` and ``neighbours``, go to the loggers and into the run's ``report.html``
    (``coma_mm.ReportHook``). Images are drawn at random once, with a fixed seed.

    Args:
        dataset: Config of the data set to take images from; its pipeline must pack images of one size. The training
            data set if ``None``.
        num_images: Images in the pictures, at most.
        num_gallery: Further images, among which the nearest neighbours of those are looked for.
        interval: Epochs (or iterations) between pictures; those at the end of training come anyway.
        by_epoch: Whether ``interval`` counts epochs.
    """

    what = 'drawing the features'

    def __init__(
        self,
        dataset: dict | None = None,
        num_images: int = 4,
        num_gallery: int = 124,
        interval: int = 10,
        by_epoch: bool = True,
    ):
        super().__init__(interval, by_epoch)
        require_whole(1, num_images=num_images)
        require_whole(0, num_gallery=num_gallery)
        self.dataset, self.num_images, self.num_gallery = dataset, num_images, num_gallery

    @master_only
    def before_train(self, runner: Runner) -> None:
        items = draw_items(watched_dataset(runner, self.dataset), self.num_images + self.num_gallery, seed=0)
        count = min(self.num_images, len(items))
        # the images at equal distances, where a folder has its classes one after the other; the others to be found
        shown = torch.linspace(0, len(items) - 1, count).round().int().tolist()
        self.images = torch.stack([items[i]['inputs'] for i in shown])
        self.names = [name_of(items[i], i + 1) for i in shown]
        rest = [item['inputs'] for i, item in enumerate(items) if i not in shown]
        self.gallery = torch.stack(rest) if rest else self.images[:0]

    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        model = unwrap(runner.model)
        features = compute_features(model, self.images)
        log_picture(runner, 'features', draw_features(features, names=self.names), step)
        if len(self.gallery):
            parts = [compute_features(model, part) for part in self.gallery.split(max(self.num_images, 8))]
            originals, pooled = (torch.cat([getattr(part, key) for part in parts]) for key in ('originals', 'pooled'))
            picture = draw_neighbours(features.originals, features.pooled, originals, pooled)
            log_picture(runner, 'neighbours', picture, step)
