"""The same crops, masks and dropped paths, whether a run was interrupted or not."""

from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...datasets.listings import save_listings
from ...datasets.seeding import derive_seed, seed_generators, seed_samples
from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds each sample by its place in the order of its epoch, and each step by its number and the rank.

    So a run draws the same after a resume, wherever it was interrupted, and with any number of loading workers. The
    seeds of the run and of the order of its samples travel with checkpoints, so that runs without ``randomness.seed``
    can be resumed too. ``tools/train.py`` adds this hook to all runs.
    """

    def before_train(self, runner: Runner) -> None:
        """Take up the seeds of a resumed run, the same in all processes."""
        self.batches = seed_samples(runner.train_dataloader)
        if self.batches is None:
            runner.logger.warning(
                f'{type(runner.train_dataloader.dataset).__name__} is a stream, a list, or loaded without batches: '
                'what its transforms draw, and where it goes on, will differ after a resume'
            )
        sampler: Any = getattr(self.batches, 'sampler', None)
        new = dict(run=runner.seed, order=getattr(sampler, 'seed', None))
        shared = [runner.message_hub.get_info('seeds') or new]
        broadcast_object_list(shared)
        seeds = shared[0]
        runner.message_hub.update_info('seeds', seeds)
        self.seed = seeds['run']
        self._compare_images(runner)
        if seeds['order'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = seeds['order']

    def _compare_images(self, runner: Runner) -> None:
        """Warn of a resumed run with other images than at its beginning; note those of now, and their listing."""
        now = getattr(runner.train_dataloader.dataset, 'checksum', None)
        before = runner.message_hub.get_info('images')
        if before is not None and now is not None and tuple(before) != now:
            runner.logger.warning(
                f'the images are not those that the run began with ({before[0]:,} then, {now[0]:,} now): it goes on '
                'with what is there, in another order than if it had never stopped'
            )
        runner.message_hub.update_info('images', now)
        if is_main_process():
            save_listings(runner.work_dir)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.batches is not None:
            self.batches.seed, self.batches.epoch = self.seed, runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed this process for the step, as loading, starting workers and validating draw numbers, too."""
        seed = derive_seed(self.seed, 'step', runner.iter, runner.rank)
        seed_generators(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(seed)
