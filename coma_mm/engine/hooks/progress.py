"""Progress of a run, on one line of the screen, and the next command to type when it is done."""

import logging
import time
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...registry import HOOKS
from ...utils.configs import type_name
from ...utils.paths import short_path
from ...utils.text import counted, three_digits
from ..common import unwrap
from ..runner.schedule import BatchSchedule

EVERY = 0.5  # seconds between two readings of the loss, which wait for the device
LINES = 30.0  # seconds between two lines where there is no terminal
PLACES = 'work_dir', 'checkpoint', 'config'  # in the text of FinishedHook


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a bar with loss, rate, images per second, time spent waiting for data and time left.

    The loss is read twice a second at the most, so the device is not held up by it. The first step shows at once. Where
    steps take long, the log gets a line every 30 seconds beside mmengine's.

    Args:
        lines: Whether the screen has these lines, of the first and the last step, too, in place of mmengine's, which
            then are in the log file alone. (A terminal whose logger is quiet has the bar.)
        opening: Whether to begin with a line on images, model, length and device.
    """

    priority = 'ABOVE_NORMAL'  # the first step shows before hooks look at what it has changed

    def __init__(self, lines: bool = True, opening: bool = False):
        self.lines = lines
        self.opening = opening

    def before_train(self, runner: Runner) -> None:
        self.shown = is_main_process()
        if not self.shown:
            return
        batching = BatchSchedule.of(runner)
        self.images = batching.images
        if self.opening:
            print(describe_run(runner, batching), flush=True)
        if runner.iter >= runner.max_iters:
            print(f'the run is complete: {runner.iter} of {runner.max_iters} steps', flush=True)
        self.console = Console()
        self.bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('steps'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task('starting', total=runner.max_iters, completed=runner.iter)
        self.bar.start()
        self.log_interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 0)
        self.updated = self.printed = time.perf_counter()
        self.started, self.first = self.updated, runner.iter
        screens = [x for x in runner.logger.handlers if not isinstance(x, logging.FileHandler)]
        self.prints = self.lines and not self.console.is_terminal and all(x.level > logging.INFO for x in screens)
        for screen in screens if self.lines else ():
            screen.addFilter(lambda record: not record.getMessage().startswith(('Epoch(train)', 'Iter(train)')))
        self.waited, self.done = 0.0, 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Measure the speed from the second step on, as the first one includes the start."""
        if self.shown and runner.iter == self.first + 1:
            self.started = self.updated = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if not self.shown:
            return
        self.done += 1
        self.waited += getattr(runner.train_loop, 'waited', 0.0)
        now = time.perf_counter()
        if self.every_n_train_iters(runner, self.log_interval) and not self.lines:
            self.printed = now  # mmengine has
        is_first = runner.iter == self.first
        is_due = now - self.printed > LINES or (self.lines and (is_first or self.is_last_train_iter(runner)))
        if not is_due and (now - self.updated < EVERY or not self.console.is_terminal):
            return
        loss = torch.as_tensor((outputs or {}).get('loss', float('nan'))).item()
        now = time.perf_counter()  # the device has done all that it was told
        passed = now - self.updated
        lr = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        text = f'loss {loss:.4f}  rate {lr:.2e}'
        if not is_first:
            text += f'  {three_digits(self.done * self.images / passed)} images/s  data {self.waited / passed:.0%}'
        self.bar.update(self.task, completed=runner.iter + 1, total=runner.max_iters, description=text)
        if is_due:
            if is_first:
                line = f'step {runner.iter + 1}  {text}'
            else:
                left = (now - self.started) / (runner.iter - self.first) * (runner.max_iters - runner.iter - 1)
                line = f'step {runner.iter + 1}/{runner.max_iters}  {text}  {duration(left)} left'
            runner.logger.info(line)
            if self.prints:
                self.console.print(line)
            self.printed = now
        self.updated, self.waited, self.done = now, 0.0, 0

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if hasattr(self, 'bar'):
            self.bar.stop()


@HOOKS.register_module()
class FinishedHook(Hook):
    """Logs a text after everything else at the end of training.

    Args:
        text: May contain ``{work_dir}``, ``{checkpoint}`` (the last one) and ``{config}``, which become paths to type
            from the current directory.
    """

    priority = 'LOWEST'

    def __init__(self, text: str):
        try:
            text.format(**dict.fromkeys(PLACES, ''))
        except (AttributeError, IndexError, KeyError, ValueError) as error:  # and not when training is done
            raise ValueError(
                f'text of FinishedHook must be a text with {", ".join(f"{{{name}}}" for name in PLACES)} in it and no '
                f'other braces, got {text!r} ({error})'
            ) from None
        self.text = text

    @master_only
    def after_train(self, runner: Runner) -> None:
        paths = dict(
            work_dir=runner.work_dir, checkpoint=runner.message_hub.get_info('last_ckpt'), config=runner.cfg.filename
        )
        paths = {key: short_path(path) if path else f'(no {key})' for key, path in paths.items()}
        runner.logger.info(self.text.format(**paths))


def describe_run(runner: Runner, batching: BatchSchedule) -> str:
    """Return what a run is about to do, in a line."""
    loader = runner.train_dataloader
    parameters = list(runner.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    if torch.cuda.is_available():
        where = f'{get_world_size()} x {torch.cuda.get_device_name()}'
    else:
        where = f'the CPU ({get_world_size()} x {counted(torch.get_num_threads(), "thread")})'
    if type_name(type(runner.optim_wrapper)) in ('AutocastOptimWrapper', 'AmpOptimWrapper'):
        where += ', mixed precision'
    left = f', {runner.iter} of them done' if runner.iter else ''
    updates = f', {batching.accumulative_counts} for each update' if batching.accumulative_counts > 1 else ''
    every = sum(p.numel() for p in parameters)
    model = type(unwrap(runner.model)).__name__
    return (
        f'{counted(len(loader.dataset), "image")}; {model}, {trained / 1e6:.1f} M parameters to train of '
        f'{every / 1e6:.1f} M; {counted(runner.max_iters, "step")} of {counted(batching.images, "image")}'
        f'{updates}{left}; on {where}. All else is in {short_path(runner.work_dir)}'
    )


def duration(seconds: float) -> str:
    """Write a time as people do: 40 s, 12 min, 3.5 h, 4.2 days."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 5400:
        return f'{seconds / 60:.0f} min'
    hours = seconds / 3600
    return f'{hours:.1f} h' if hours < 48 else f'{hours / 24:.1f} days'


def end_after(seconds: float) -> str:
    """Write when so many seconds will have gone by: the day of the week, and the date where that leaves it open."""
    end = time.localtime(time.time() + seconds)
    return time.strftime('%A %H:%M' if seconds < 6 * 86_400 else '%A, %d %B %Y, %H:%M', end)
