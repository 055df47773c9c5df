"""Pictures of the reconstruction and of the features while a model trains."""

import os.path as osp

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.runner import Runner
from torch.utils.data import Dataset, default_collate

from ...datasets.seeding import fixed_seed
from ...evaluation import reconstruct_images
from ...models.compiled import uncompiled
from ...models.mask_units import hidden_mask, read_masked_units
from ...registry import HOOKS
from ...utils import manifest
from ...utils.arguments import require_whole
from ...utils.paths import short_path
from ...utils.text import one_line
from ...visualization import compute_features, draw_features, draw_neighbours, draw_reconstructions
from ..common import unwrap, watched_dataset
from ..runner.loggers import log_picture
from ..runner.periodic import PeriodicHook

ENDINGS = '.png', '.jpg', '.jpeg', '.webp', '.tif', '.tiff', '.pdf', '.svg'  # of pictures


def draw_items(dataset: Dataset, count: int, seed: int) -> list[dict]:
    """Draw packed images of a data set at random: the same ones for a seed, in the data set's order."""
    with fixed_seed(seed):
        chosen = np.random.default_rng(seed).choice(len(dataset), min(count, len(dataset)), replace=False)
        return [dataset[i] for i in sorted(chosen.tolist())]


def name_of(item: dict, number: int) -> str:
    """Return the file name of a packed image, or its number."""
    return one_line(osp.basename(item['data_samples'].get('img_path') or f'image {number}'))


@HOOKS.register_module()
class ReconstructionHook(PeriodicHook):
    """Draws ``reconstruction.png`` into the work dir every few epochs and at the end of training.

    The first picture comes within the first tenth of the run, or after the first step.
    Images, drawn at random, and masks are taken once, with a fixed seed, so that pictures can be compared. The log gets
    the PSNR, and that of a guess without a model (:attr:`.Reconstructions.baseline`).

    Args:
        dataset: Config of the data set to take images from; its pipeline must draw masks
            (``coma_mm.ComplementaryMask``) and pack them. The training data set if ``None``.
        num_images: Images in the picture, at most.
        interval: Epochs (or iterations) between pictures; the first and the one at the end of training come anyway.
        by_epoch: Whether ``interval`` counts epochs.
        seed: Seed of the choice of images, of masks, and of random transforms in the pipeline.
        out: File name in the work dir.
    """

    first_after = 0.1

    def __init__(
        self,
        dataset: dict | None = None,
        num_images: int = 8,
        interval: int = 10,
        by_epoch: bool = True,
        seed: int = 0,
        out: str = 'reconstruction.png',
    ):
        super().__init__(interval, by_epoch)
        require_whole(1, num_images=num_images)
        require_whole(0, seed=seed)
        out = osp.normpath(out)
        if osp.isabs(out) or out.startswith('..') or not out.lower().endswith(ENDINGS):
            raise ValueError(f'out must be a name in the work dir that ends in {", ".join(ENDINGS)}, got {out!r}')
        self.dataset, self.num_images, self.seed, self.out = dataset, num_images, seed, out
        self.what = f'drawing {out}'

    @master_only
    def before_train(self, runner: Runner) -> None:
        items = draw_items(watched_dataset(runner, self.dataset), self.num_images, self.seed)
        self.images = torch.stack([item['inputs'] for item in items])
        samples = [item['data_samples'] for item in items]
        batch = default_collate(samples) if isinstance(samples[0], dict) else samples
        masked = read_masked_units(self.images, batch, unwrap(runner.model).unit_size)
        self.mask = hidden_mask(masked).view(-1, *masked.grid)
        self.names = [name_of(item, i) for i, item in enumerate(items, 1)]

    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        """Draw the picture; log the PSNR, at the end of each image."""
        model = unwrap(runner.model)
        with uncompiled(model):
            result = reconstruct_images(model, self.images, self.mask)
        path = osp.join(runner.work_dir, self.out)
        with manifest.own_file(runner.work_dir, self.out, 'picture') as unfinished:
            picture = draw_reconstructions(result, unfinished, self.names)
        runner.logger.info(f'{short_path(path)}\n{result.report(self.names)}' if last else result.summary())
        scalars = dict(psnr=result.psnr.mean().item(), psnr_baseline=result.baseline.mean().item())
        runner.visualizer.add_scalars(scalars, step)
        log_picture(runner, 'reconstruction', picture, step)


@HOOKS.register_module()
class FeaturesHook(PeriodicHook):
    """Draws main components and attention of each stage's features, and nearest neighbours of images.

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
        # at equal distances, as folders have their classes one after the other; the other images are the gallery
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
