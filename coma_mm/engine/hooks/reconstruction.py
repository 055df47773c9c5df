"""Pictures of the reconstruction while a model trains."""

import os.path as osp

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.runner import Runner
from torch.utils.data import Dataset, default_collate

from ...datasets.seeding import fixed_seed
from ...evaluation import reconstruct_images
from ...models.compiled import uncompiled
from ...models.mask_units import hidden_units, read_masked_units
from ...registry import HOOKS
from ...utils import manifest
from ...utils.arguments import require_whole
from ...utils.paths import short_path
from ...utils.text import one_line
from ...visualization import draw_reconstructions
from ..common import unwrap, watched_dataset
from ..runner.loggers import log_picture
from ..runner.periodic import PeriodicHook


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
        seed: Of the choice of images, the masks, and random transforms in the pipeline.
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
        if osp.isabs(out) or out.startswith('..') or not osp.splitext(out)[1]:
            raise ValueError(
                f'out must be the name of a picture in the work dir, such as reconstruction.png, got {out!r}'
            )
        self.dataset, self.num_images, self.seed, self.out = dataset, num_images, seed, out
        self.what = f'drawing {out}'

    @master_only
    def before_train(self, runner: Runner) -> None:
        items = draw_items(watched_dataset(runner, self.dataset), self.num_images, self.seed)
        self.images = torch.stack([item['inputs'] for item in items])
        samples = [item['data_samples'] for item in items]
        batch = default_collate(samples) if isinstance(samples[0], dict) else samples
        masked = read_masked_units(self.images, batch, unwrap(runner.model).unit_size)
        self.mask = hidden_units(masked).view(-1, *masked.grid)
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
