"""``coma_mm.pretrain``: from a folder of images to weights; all settings follow from the data and the machine."""

import io
import logging
import math
import os
import re
import shlex
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from .checkpoints.finding import newest_whole_checkpoint
from .checkpoints.older_runs import find_config
from .datasets import ImageFolder
from .datasets.exclusion import Exclusion, find_masks
from .datasets.finding import name_endings
from .datasets.labelled import Labelled, find_labelled
from .datasets.loading import MAX_PIXELS, read_channels
from .datasets.value_range import ValueRange, find_value_range
from .engine import BudgetHook, RunInterrupted
from .engine.hooks.progress import duration
from .engine.runner.build import build_quietly, prepare, prepare_resuming
from .engine.runner.loggers import LOGGERS, check_loggers
from .engine.runner.recalled_options import REMOVE, recall_options
from .engine.runner.signals import stop_listening
from .engine.runner.trial import forget_peak, make_step, peak_so_far
from .engine.runner.work_dir import ReplaceResultsHook, find_results_to_replace, lock_work_dir
from .export.weights import export
from .recipe import LOOKING_SHARE, METHOD, USEFUL, make_config, passes_for
from .utils import ranges
from .utils.arguments import require_flag
from .utils.clock import command_begin
from .utils.environment import has_fast_bf16
from .utils.files import require_writable
from .utils.manifest import fingerprint, own_file
from .utils.memory import available_memory
from .utils.paths import short_path
from .utils.text import one_line, printable
from .visualization.run_files import PICTURES
from .visualization.serve import serve_report

# In the opening line.
METHOD_NAMES = dict(mae='masked autoencoding', coma='CoMA', align='masked autoencoding with aligned halves')
RANGES = dict(
    epochs=ranges.EPOCHS,
    steps=ranges.STEPS,
    minutes=ranges.MINUTES,
    size=ranges.IMAGE_SIZE,
    batch_size=ranges.BATCH_SIZE,
    workers=ranges.WORKERS,
    seed=ranges.SEED,
    val=ranges.FRACTION,
    channels=ranges.CHANNELS,
    max_pixels=ranges.MAX_PIXELS,
    lr=ranges.LEARNING_RATE,
    mask_ratio=ranges.MASK_RATIO,
    serve=ranges.PORT,
)
TRIED = 4  # images of the first of two steps that are timed before a run
LARGEST = dict(cuda=1024, cpu=64)  # images of a step
STEP = 64  # images of a step at least, computed in parts where the memory is small
PART = 16  # images that are computed at once at least
DEFAULTS: dict = dict(arch='tiny', size=224, seed=0, val=0.0, channels=3)
HANDED_OVER = 'last.pth', 'backbone.safetensors'  # names in the run's folder


def pretrain(
    data: str | Sequence[str] | None,
    out: str | Path,
    arch: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    size: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    val: float | None = None,
    channels: int | None = None,
    value_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
    method: str | None = None,
    lr: float | None = None,
    mask_ratio: float | None = None,
    exclude: Sequence[str] | None = None,
    crop_scale: Sequence[float] | None = None,
    no_flip: bool | None = None,
    log: Sequence[str] | None = None,
    labels: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    serve: int | None = None,
) -> Path:
    """Pre-train a DyViT on images without labels.

    Args:
        data: Folders of images, sub-folders and all, or ``.txt`` files of their paths.
        out: The run's folder. At the end it has ``backbone.safetensors``, ``last.pth``, ``config.py``,
            ``reconstruction.png``, and the run's logs and newest checkpoints.
        arch: ``pico``, ``tiny``, ``small``, ``base`` or ``large``; ``tiny`` if ``None``.
        epochs: Passes over the images; if neither this, ``steps`` nor ``minutes`` is given they follow from the number
            of images, see :func:`.recipe.passes_for`.
        steps: Steps of the optimiser, in place of ``epochs``.
        minutes: From the call, or the start of the command, to the end, in place of ``epochs``. The run ends by the
            clock, and its schedule with it (:class:`.engine.BudgetHook`), so its results depend on the machine's speed.
        size: Side of the crops in pixels; 224 if ``None``.
        batch_size: Images of a step; if ``None`` 64 or more, in parts of 16 or more that fit the memory.
        workers: Processes that load images; from the cores there are if ``None``.
        seed: Of weights, crops and masks; 0 if ``None``.
        val: Share of the images that is held out from training, for measurements and pictures; 0 if ``None``.
        channels: Of the images: 3 for colour, 1 for grey, or what the files have; 3 if ``None``.
        value_range: Values of more than 8 bits that become black and white; found in the files if ``None``.
        max_pixels: Height times width beyond which an image is refused; 100 million if ``None``.
        method: ``mae``: masked autoencoding without an evaluation branch; ``coma``: with one, that of the paper;
            ``align``: with one whose half of an image is to be like the other. :data:`.recipe.METHOD` if ``None``.
        lr: Peak of the learning rate; from ``arch`` and the images of a step if ``None``.
        mask_ratio: Share of the units of an image that are hidden; 0.6 if ``None``.
        exclude: Patterns of paths below ``data`` of images that are left out, such as ``['*_mask.png', 'masks/*']``.
        crop_scale: Smallest and largest share of an image's area in a random crop; 0.2 and 1 if ``None``.
        no_flip: Whether no image is mirrored; every other one is if ``None``.
        log: Loggers beside the log file: ``tensorboard``, ``wandb``, ``mlflow``; a run that goes on keeps them.
        labels: Folder of labelled images, a sub-folder for each class: a linear probe with five labels a class is
            measured at each look; the images are not trained on unless they are among ``data``.
        resume: Go on with the run in ``out``; nothing else may be given, as all settings come from that run.
        overwrite: Replace the results of an earlier run in ``out``.
        serve: Port at which the report is shown on this machine, while this process lives.

    Returns:
        The file of the backbone's weights.

    Raises:
        FileNotFoundError: If there are no images, or no run to go on with.
        ValueError: If a setting is impossible.
        KeyboardInterrupt: After Ctrl-C, or a notebook's stop button: while the run trains a checkpoint is saved first,
            from which ``resume=True`` goes on. A second Ctrl-C is obeyed at once.
        RunInterrupted: After SIGTERM, SIGHUP or SIGUSR1, once a checkpoint is saved; a ``SystemExit``.
    """
    check_arguments(**locals())
    begin = command_begin()
    settings = dict(
        arch=arch,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        size=size,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        val=val,
        channels=channels,
        value_range=value_range,
        max_pixels=max_pixels,
        method=method,
        lr=lr,
        mask_ratio=mask_ratio,
        exclude=exclude,
        crop_scale=crop_scale,
        no_flip=no_flip,
        labels=labels,
        log=log,
    )
    settings = {name: value for name, value in settings.items() if value is not None}
    out, roots = check_places(data, out, settings, resume, overwrite)
    settings.pop('log', None)
    if resume:
        log = recall_options(out, dict(log=None), dict(log=LOGGERS), REMOVE).get('log')
        check_loggers(log or ())
    if serve is not None:
        print(f'the report: http://localhost:{serve_report(out, serve).server_port}', flush=True)
    with TemporaryDirectory() as folder:
        config = find_config(out) if resume else Path(folder, 'config.py')
        if config is None:
            raise FileNotFoundError(_no_run(out))
        if not resume:
            plan_run(roots, out, begin, **DEFAULTS | settings).dump(config)
        text = config.read_text()
        options = dict(
            config=str(config), cfg_options=None, work_dir=str(out), launcher='none', local_rank=0, way_on=''
        )
        cfg = prepare(Namespace(**options, log=log, resume=resume))
    if resume:
        cfg.resume = True
        prepare_resuming(cfg, required=True)
    cfg.custom_hooks.append(dict(type='coma_mm.ProgressHook'))
    cfg.custom_hooks.append(dict(type='coma_mm.ConfigHook', text=text, options=None if resume else dict(log=log)))
    results = find_results_to_replace(cfg, overwrite, '--out', HANDED_OVER)
    lock = lock_work_dir(out, '--out')  # noqa: F841 - for as long as this process lives
    runner = build_quietly(cfg, logging.WARNING)
    runner.register_hook(ReplaceResultsHook(results))
    for hook in runner.hooks:
        if isinstance(hook, BudgetHook):
            hook.begin = begin
    try:
        runner.train()
    except RunInterrupted as end:
        if end.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt(f'a checkpoint is saved in {out}; resume=True goes on from it') from None
        raise
    finally:
        stop_listening()
    return hand_over(out)


def check_arguments(**given: object) -> None:
    """Refuse arguments of :func:`pretrain` of the wrong kind or out of range, before anything is done.

    Raises:
        ValueError: With the name of the argument.
    """
    require_flag(resume=given['resume'], overwrite=given['overwrite'])
    for name, range_ in RANGES.items():
        if given[name] is not None:
            ranges.require_in(range_, **{name: given[name]})
    read_channels(3 if given['channels'] is None else given['channels'], given['value_range'])
    data = given['data']
    named = [data] if isinstance(data, (str, os.PathLike)) else [] if data is None else data
    if not isinstance(named, Sequence) or (data is not None and not named):
        raise ValueError(f'data must be a folder of images, or a list of them, got {data!r}')
    labels = '.' if given['labels'] is None else given['labels']
    for name, value in [('out', given['out']), *(('data', path) for path in named), ('labels', labels)]:
        if not isinstance(value, (str, os.PathLike)) or not os.fspath(value).strip():
            raise ValueError(f'{name} must name a folder, got {value!r}')
    Exclusion(given['exclude'])
    if given['no_flip'] is not None:
        require_flag(no_flip=given['no_flip'])
    check_crop_scale(given['crop_scale'])
    check_loggers(given['log'] or ())
    place = os.path.abspath(os.fspath(given['out']))  # type: ignore[call-overload]  # it is a path, see above
    if re.search('[\ud800-\udfff]', place):  # where PyTorch writes no checkpoints
        raise ValueError(f'{printable(place)} has a name in it that is not UTF-8: give out (--out) another folder')
    for name, example in dict(arch='tiny', method='mae').items():
        if not isinstance(given[name], str | None):
            raise ValueError(f'{name} must be a name such as {example}, got {given[name]!r}')


def check_crop_scale(scale: object) -> None:
    """Refuse what is no range of shares.

    Raises:
        ValueError: If there are not two of them, in order.
    """
    if scale is None:
        return
    two = isinstance(scale, (list, tuple)) and len(scale) == 2 and all(share in ranges.CROP_SCALE for share in scale)
    if not two or scale[0] > scale[1]:  # type: ignore[index]
        raise ValueError(f'crop_scale (--crop-scale) must be LOW HIGH with 0 < LOW <= HIGH <= 1, got {scale!r}')


def check_places(
    data: str | Sequence[str] | None, out: str | Path, settings: dict, resume: bool, overwrite: bool
) -> tuple[Path, list[str]]:
    """Return the run's folder and those of images as absolute paths, once nothing of the user's is in the way there.

    Raises:
        FileNotFoundError: If there is no run to go on with.
        ValueError: If a place cannot be what it is to be, or with ``resume`` a setting is given, which has no effect.
    """
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if resume:
        given = [*([] if data is None else ['data']), *settings, *(['overwrite'] if overwrite else [])]
        if given:
            options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise ValueError(f'with --resume all settings come from the run in {out}: leave {options} out')
        if find_config(out) is None:
            raise FileNotFoundError(_no_run(out))
        return out, []
    if data is None:
        raise ValueError(f'give data, a folder of images, or resume=True to go on with the run in {out}')
    roots = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    roots = [os.path.abspath(os.path.expanduser(root)) for root in roots]
    for root in map(os.path.realpath, roots):
        if root == os.path.realpath(out) or Path(root).is_relative_to(os.path.realpath(out / PICTURES)):
            raise ValueError(
                f'{short_path(root)} has the images, and the run would write its own pictures there: choose another '
                f'--out, such as --out {short_path(out / "run")}'
            )
    require_writable(out)
    hooks = [dict(type=f'coma_mm.{name}') for name in ('ReportHook', 'ReconstructionHook')]
    hooks.append(dict(type='coma_mm.ConfigHook', text='config.py'))
    cfg = dict(work_dir=str(out), custom_hooks=hooks, default_hooks=dict(checkpoint=dict(by_epoch=False)))
    find_results_to_replace(Config(cfg), overwrite, '--out', HANDED_OVER)  # before anything takes time
    return out, roots


def _no_run(out: Path) -> str:
    if (out / 'config.py').is_file():
        return (
            f'{short_path(out)}/config.py is not what the run has written, so it is read only if you name it: '
            f'coma-mm train {short_path(out)}/config.py --work-dir {short_path(out)} --resume'
        )
    return f'there is no run in {short_path(out)} to go on with: it has no config.py'


def plan_run(
    data: Sequence[str],
    out: Path,
    begin: float,
    arch: str,
    size: int,
    seed: int,
    val: float,
    channels: int,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    value_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
    method: str | None = None,
    lr: float | None = None,
    mask_ratio: float | None = None,
    exclude: Sequence[str] | None = None,
    crop_scale: Sequence[float] | None = None,
    no_flip: bool | None = None,
    labels: str | Path | None = None,
) -> Config:
    """Return the config of a new run, after a look at the images and two steps of training; print what to expect.

    The settings are those of :func:`pretrain`; ``begin`` is when the command began.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If a setting is impossible.
    """
    if sum(length is not None for length in (epochs, steps, minutes)) > 1:
        raise ValueError('give one of epochs, steps and minutes')
    if labels is not None:
        labels = os.path.abspath(os.path.expanduser(labels))
    given: dict[str, Any] = dict(channels=channels, value_range=value_range, max_pixels=max_pixels)
    given |= dict(method=method or METHOD, lr=lr, mask_ratio=mask_ratio, labels=labels)
    given |= dict(exclude=exclude, crop_scale=crop_scale, no_flip=no_flip)
    cfg = make_config(data, str(out), arch, size=size, batch_size=TRIED, workers=0, val=val, **given)
    print(f'looking at the images in {printable(", ".join(map(short_path, map(Path, data))))} ...', flush=True)
    with redirect_stdout(io.StringIO()):
        init_default_scope(cfg.default_scope)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        images = len(dataset)
        paths = [dataset.get_data_info(i)['img_path'] for i in range(images)]
        names = dataset.name_images(paths)
        if idle := dataset.exclusion.idle:
            raise ValueError(
                f'no image matches {", ".join(map(repr, idle))} of --exclude; patterns are of paths below '
                f'{", ".join(map(short_path, map(Path, data)))}, such as {names[0]!r}'
            )
        found = find_value_range(paths, channels, value_range, max_pixels or MAX_PIXELS)
        if found is not None:
            given['value_range'] = found.low, found.high
            cfg = make_config(data, str(out), arch, size=size, batch_size=TRIED, workers=0, val=val, **given)
        labelled = None if labels is None else find_labelled(labels)  # before anything takes time
        held_out = len(DATASETS.build({**cfg.train_dataloader.dataset, 'part': 'val'})) if val else 0
    print(f'{images + held_out:,} images; trying two steps of training ...', flush=True)
    with redirect_stdout(io.StringIO()):
        seconds, fitting, parameters = try_out(cfg)
    seconds /= 1 - LOOKING_SHARE
    batch, accumulate = (batch_size, 1) if batch_size else choose_batch(images, fitting, torch.cuda.is_available())
    if method is None and batch == 1:
        given['method'] = 'mae'  # nothing to compare an image with
    per_step = batch * accumulate
    per_epoch = max(1, images // per_step)
    spent = time.monotonic() - begin
    if minutes is not None:
        left = 60 * minutes - 2 * spent  # starting to train takes about as long again
        steps = max(1, int(left / (seconds * per_step)))
    elif steps is None:
        steps = max(1, round((epochs or passes_for(images)) * per_epoch))
    model = f'DyViT-{arch} and its decoder, {parameters / 1e6:.1f} M parameters, by {METHOD_NAMES[given["method"]]}'
    text = describe(model, images, held_out, size, per_step, steps, per_epoch, seconds * per_step * steps, minutes)
    if steps * per_step < USEFUL:
        text += advise_length(steps * per_step, images, spent + seconds * USEFUL)
    if accumulate > 1:
        text += f' Memory is short: each step computes {accumulate} batches of {batch} images, one after another.'
    print(' '.join([text, *describe_files(dataset, found), *describe_labelled(labelled)]), flush=True)
    for warning in (found.warn() if found else None, warn_of_masks(names, dataset.exclusion)):
        if warning:
            print(f'warning: {warning}', file=sys.stderr, flush=True)
    given |= dict(accumulate=accumulate, minutes=minutes)
    return make_config(data, str(out), arch, steps, size, batch, workers, seed, val, **given)


def describe_files(dataset: ImageFolder, found: ValueRange | None) -> list[str]:
    """Return sentences on the values of images, and on what is left out in their folders."""
    left_out, excluded = name_endings(dataset.left_out), dataset.exclusion.describe()
    sentences = [found.describe()] if found else []
    sentences += [f'{left_out[0].upper()}{left_out[1:]}.'] if left_out else []
    return sentences + ([f'{printable(excluded)}.'] if excluded else [])


def describe_labelled(labelled: Labelled | None) -> list[str]:
    """Return sentences on the images of ``--labels``."""
    if labelled is None:
        return []
    count = len(labelled.learn) + len(labelled.test)
    sentences = [
        f'Of {count:,} labelled images, {len(labelled.classes)} classes, a linear probe is measured meanwhile.'
    ]
    return sentences + [printable(f'Labelled {sentence}.') for sentence in labelled.left_out]


def warn_of_masks(names: Sequence[str], exclusion: Exclusion) -> str | None:
    """Say which images look like masks of others, and what to type."""
    count, patterns = find_masks(names)
    if not patterns:
        return None
    options = ' '.join(map(shlex.quote, [*exclusion.tests, *patterns]))
    return f'{count} images have names as masks of others have; to train without them: --exclude {printable(options)}'


def try_out(cfg: Config) -> tuple[float, float, int]:
    """Take steps with few images; return the seconds for each image, how many fit the memory, and the parameters."""
    on_gpu = torch.cuda.is_available()
    peaks, seconds, parameters = [], 0.0, 0
    for count in (TRIED, 2 * TRIED):
        forget_peak(on_gpu)
        model, step = make_step(cfg, count)
        step()
        start = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / count
        peaks.append(peak_so_far(on_gpu))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        del model, step
    each = max(1, (peaks[1] - peaks[0]) / TRIED)
    if on_gpu:
        torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] if on_gpu else available_memory()
    return seconds, math.inf if free is None else 0.7 * (free - peaks[0]) / each, parameters


def choose_batch(images: int, fitting: float, on_gpu: bool) -> tuple[int, int]:
    """Return how many images are computed at once, and how many such batches make a step; powers of two.

    A step has as many images as leave eight steps in a pass over them, but at least 64 where there are so many.

    Args:
        images: In the data set.
        fitting: Images that fit the memory at once; 16 are computed in any case.
        on_gpu: Where.
    """

    def power(number: float) -> int:
        return 2 ** int(math.log2(max(1, number)))

    step = power(min(images, max(STEP, min(images / 8, LARGEST['cuda' if on_gpu else 'cpu']))))
    batch = power(min(step, max(PART, fitting)))
    return batch, step // batch


def describe(
    model: str,
    images: int,
    held_out: int,
    size: int,
    batch: int,
    steps: int,
    per_epoch: int,
    seconds: float,
    minutes: float | None,
) -> str:
    """Return the paragraph that opens a run."""
    if torch.cuda.is_available():
        where = f'{torch.cuda.get_device_name()}, {"bf16" if torch.cuda.is_bf16_supported() else "fp16"}'
    else:
        where = f'the CPU ({torch.get_num_threads()} threads), {"bf16" if has_fast_bf16() else "fp32"}'
    end = time.strftime('%A %H:%M', time.localtime(time.time() + seconds))
    apart = f', {held_out} of them held out' if held_out else ''
    text = (
        f'{images + held_out} images found{apart}. {model}, on crops of {size} px, '
        f'{"about " if minutes else ""}{steps} steps of {batch} images ({steps / per_epoch:.3g} passes), on {where}: '
    )
    if minutes is not None:
        return text + f'{minutes:g} minutes in all, until {end}; the number of steps follows the speed.'
    text += f'about {duration(seconds)}, until {end}.'
    if not torch.cuda.is_available() and seconds > 1800:
        text += ' Faster: a GPU, a smaller --arch or --size, or --minutes for a shorter run.'
    return text


def advise_length(shown: int, images: int, seconds: float) -> str:
    """Say that a run shows too few images, and what to type for one that shows enough in so many seconds."""
    epochs = max(1, math.ceil(USEFUL / images))
    return (
        f' That shows {shown:,} images in all, too few for useful features, which take about {USEFUL:,}: '
        f'--minutes {math.ceil(seconds / 60)}, or --epochs {epochs}.'
    )


def hand_over(out: Path) -> Path:
    """Write what others take from a finished run: ``last.pth`` and ``backbone.safetensors``."""
    out = out.absolute()
    last, backbone = newest_whole_checkpoint(out), out / HANDED_OVER[1]
    if last is None:
        raise FileNotFoundError(f'{out} has no whole checkpoint, of which weights could be written')
    with own_file(out, HANDED_OVER[0], 'weights', fingerprint(last)) as unfinished:
        unfinished.unlink()
        try:
            os.link(last, unfinished)
        except OSError:  # a file system without links
            copyfile(last, unfinished)
    export(str(last), str(backbone), prefix='backbone.', kind='weights')
    files = sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith('.'))
    print(one_line(f'{short_path(out)} has {", ".join(files)}'))
    return backbone
