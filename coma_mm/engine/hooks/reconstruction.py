"""Pictures of the reconstruction while a model trains."""

import os.path as osp
import random
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from ...arguments import require_flag, require_whole
from ...registry import DATASETS, HOOKS
from ...visualization import draw_reconstructions, reconstruct_images
from ..common import short_path, unwrap
from ..failures import spare


@contextmanager
def fixed_seed(seed: int):
    """Seed all generators that transforms draw from, and put them back: the run must not depend on its pictures."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws ``reconstruction.png`` into the work dir every few epochs and at the end of training.

    Images and masks are taken once, with a fixed seed, so that pictures can be compared. The log gets the PSNR, and
    that of filling each unit with the mean colour of its visible neighbours.

    Args:
        dataset: Config of the data set to take the first images from; its pipeline must draw masks
            (``coma_mm.ComplementaryMask``) and pack them. The training data set if ``None``.
        num_images: Images in the picture, at most.
        interval: Epochs (or iterations) between pictures; those at the end of training come anyway.
        by_epoch: Whether ``interval`` counts epochs.
        seed: Of the masks, and of random transforms in the pipeline.
        out: File name in the work dir.
    """

    def __init__(
        self,
        dataset: dict | None = None,
        num_images: int = 8,
        interval: int = 10,
        by_epoch: bool = True,
        seed: int = 0,
        out: str = 'reconstruction.png',
    ):
        require_whole(1, num_images=num_images)
        require_whole(0, interval=interval, seed=seed)
        require_flag(by_epoch=by_epoch)
        self.dataset = dataset
        self.num_images = num_images
        self.interval = interval
        self.by_epoch = by_epoch
        self.seed = seed
        self.out = out

    @master_only
    def before_train(self, runner) -> None:
        """Take the images and masks."""
        with fixed_seed(self.seed):
            dataset = runner.train_dataloader.dataset if self.dataset is None else DATASETS.build(self.dataset)
            items = [dataset[i] for i in range(min(self.num_images, len(dataset)))]
        self.images = torch.stack([item['inputs'] for item in items])
        self.mask = torch.stack([torch.as_tensor(item['data_samples'].get('mask')) for item in items])
        self.names = [
            osp.basename(item['data_samples'].get('img_path') or f'image {i + 1}') for i, item in enumerate(items)
        ]

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Draw every ``interval`` iterations."""
        due = not self.by_epoch and self.every_n_train_iters(runner, self.interval)
        if due and not self.is_last_train_iter(runner):
            self._draw(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        """Draw every ``interval`` epochs."""
        due = self.by_epoch and self.every_n_epochs(runner, self.interval)
        if due and not self.is_last_train_epoch(runner):
            self._draw(runner, runner.iter)

    def after_train(self, runner) -> None:
        """Draw the last picture and log each image's PSNR."""
        self._draw(runner, runner.iter, each=True)

    @master_only
    def _draw(self, runner, step: int, each: bool = False) -> None:
        with spare(runner, f'drawing {self.out}'):
            model = unwrap(runner.model)
            result = reconstruct_images(model, self.images, self.mask)
            path = osp.join(runner.work_dir, self.out)
            draw_reconstructions(result, path, self.names)
            runner.logger.info(f'{short_path(path)}\n{result.report(self.names)}' if each else result.summary())
            scalars = dict(psnr=result.psnr.mean().item(), psnr_baseline=result.baseline.mean().item())
            runner.visualizer.add_scalars(scalars, step)
