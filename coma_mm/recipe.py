"""The config of ``coma-mm pretrain``, made of its settings; fine-tuning shares some of the steps.

:func:`make_config` fills in ``configs/pretrain/coma_dyvit-b_folder.py``. ``coma-mm train`` takes the result as well.
"""

import math
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from mmengine.config import Config, ConfigDict

from .engine.common import EVALUATING
from .engine.runner.config_files import read_recipe
from .settings import DEFAULT_METHOD, VITS, PretrainSettings, RunSettings, find_arch
from .utils.configs import type_name
from .utils.environment import count_cores


def _decoder(dim: int, depth: int) -> dict:
    return dict(dim=dim, depth=depth, num_heads=dim // 32)


class Variant(NamedTuple):
    """Width of an encoder's last stage, a decoder to suit it, and the peak learning rate at 256 images a step."""

    width: int
    decoder: dict
    lr: float


# Not measured, but for pico's rate, which is that of docs/evidence.md; those of base and large are MAE's.
VARIANTS = {
    'pico': Variant(256, _decoder(128, 2), 2e-3),
    'tiny': Variant(512, _decoder(256, 4), 6e-4),
    'small': Variant(768, _decoder(384, 6), 3e-4),
    'base': Variant(1024, _decoder(512, 8), 1.5e-4),
    'large': Variant(1536, _decoder(512, 8), 1.5e-4),
    'vit-tiny': Variant(192, _decoder(256, 4), 6e-4),
    'vit-small': Variant(384, _decoder(384, 6), 3e-4),
    'vit-base': Variant(768, _decoder(512, 8), 1.5e-4),
    'vit-large': Variant(1024, _decoder(512, 8), 1.5e-4),
}


@dataclass
class Encoder:
    """An encoder to pre-train, and what suits it."""

    name: str  # as users read it
    backbone: dict
    decoder: dict
    lr: float  # peak at 256 images a step
    normalisation: dict = field(default_factory=dict)  # mean and std of pixels where weights say them
    origin: str = ''  # sentences on the weights that it starts from, and on its teacher
    teacher: dict | None = None  # settings of the evaluation branch where that is a frozen teacher

    @property
    def unit_size(self) -> int:
        """Side of a mask unit in pixels: a patch of a ViT, 8 of a DyViT."""
        return self.backbone['patch_size'] * (8 if self.backbone['type'] == 'coma_mm.DyViT' else 1)

    def check_size(self, size: int) -> None:
        """Refuse images whose side is no multiple of the unit, with the nearest that are."""
        unit = self.unit_size
        if size % unit or size < 2 * unit:
            near = sorted({max(2, size // unit) * unit, max(2, size // unit + 1) * unit})
            raise ValueError(
                f'images of {size} px do not divide into units of {unit} px: give size {" or ".join(map(str, near))}'
            )


class Method(NamedTuple):
    """Settings of the model, and the share of an image that is hidden."""

    model: dict
    mask_ratio: float


# Shares and weights are those that were best in docs/evidence.md, questions 1 and 10.
METHODS = dict(
    mae=Method(dict(evaluation=dict(mode='off'), keep_apart=0.3), 0.75),
    coma=Method(dict(evaluation=dict(mode='copy')), 0.6),
    align=Method(dict(evaluation=dict(mode='align', weight=1.0), predict_visible=1.0, keep_apart=1.0), 0.6),
)
TAUGHT = Method(dict(keep_apart=3.0), 0.6)  # settings of `mae` that a teacher changes
DEFAULT_SIZE = 224  # pixels
EVALUATIONS = 20  # pictures and checkpoints in a run, about
EVALUATION_COST = 150  # of one evaluation with its pictures, in training images
PROBE_COST = 450  # of one probe with few labels, in training images
EVALUATION_FRACTION = 0.2  # of the time of a run, at most
WARM_UP = 0.1  # of the steps
MIN_SCHEDULE = 1000  # steps of a schedule at least, where a budget of time decides on those of the run

# Images that a run has to show before its features are worth having, about: with 15 labels a class 27,000 gain 3 points
# over random weights, and 46,000 gain 4 with 20 (docs/evidence.md, question 10).
USEFUL_IMAGES = 30_000


class Passes(NamedTuple):
    """Passes of a run by its number of images: a falling curve between the most and the fewest."""

    passes: int
    images: int  # over which there are so many passes
    fall: float  # exponent of passes by images
    fewest: int
    most: int

    def over(self, images: int) -> int:
        """Return the passes of a run that is given no length."""
        return round(min(self.most, max(self.fewest, self.passes * (self.images / images) ** self.fall)))


# Over 1,000 photos, 360 passes are hardly ahead of 90 (docs/evidence.md, question 10). Peers pre-train for 100 to 200
# passes over 100,000 photos and more.
PASSES = Passes(400, 1_000, 0.2, 100, 2000)


def choose_patch(size: int) -> int:
    """Return the patch size of a DyViT for crops of so many pixels: 16 units or more, of eight patches a side."""
    return 4 if size >= 128 else 2 if size >= 64 else 1


def choose_encoder(settings: PretrainSettings) -> Encoder:
    """Return the encoder that settings name; patches are so small that there are 16 units or more."""
    arch, size = find_arch(settings.arch or 'tiny'), settings.size or DEFAULT_SIZE
    scale = choose_patch(size)
    if arch in VITS:
        name, backbone = f'ViT-{arch[4:]}', dict(type='coma_mm.MaskedViT', arch=VITS[arch], patch_size=4 * scale)
    else:
        name, backbone = f'DyViT-{arch}', dict(type='coma_mm.DyViT', arch=arch, patch_size=scale)
    backbone |= dict(img_size=size)
    if settings.channels not in (None, 3):
        backbone |= dict(in_channels=settings.channels)
    _, decoder, lr = VARIANTS[arch]
    encoder = Encoder(name, backbone, decoder, lr)
    encoder.check_size(size)
    return encoder


def make_config(settings: PretrainSettings, encoder: Encoder | None = None, accumulate: int = 1) -> Config:
    """Return the config of a run.

    Args:
        settings: ``steps`` of the optimiser are 1,000 if ``None``, and a guess with ``minutes``; warm-up, cosine,
            checkpoints and pictures follow from them. ``batch_size``, the images computed at once, is 64 if ``None``.
        encoder: That of ``arch``, ``size`` and ``channels`` if ``None``.
        accumulate: Number of batches in a step.
    """
    batch, encoder = settings.batch_size or 64, encoder or choose_encoder(settings)
    cfg = begin_config('pretrain/coma_dyvit-b_folder.py', settings, encoder.lr, batch, accumulate)
    set_model(cfg, settings, encoder)
    set_images(cfg, settings, encoder.unit_size, batch)
    iterations = (settings.steps or 1000) * accumulate
    set_schedule(cfg, iterations if settings.minutes is None else max(iterations, MIN_SCHEDULE * accumulate))
    set_intervals(cfg, iterations, batch, settings.labels)
    add_budget(cfg, settings, iterations)
    return cfg


def begin_config(recipe: str, settings: RunSettings, lr: float, batch: int, accumulate: int) -> Config:
    """Return the config of a recipe with the folder, the seed and the optimiser of a run.

    Args:
        recipe: Its file in ``configs``.
        lr: Peak of the learning rate at 256 images a step; it follows the square root of their number.
        batch: Images that are computed at once.
        accumulate: Number of batches in a step.
    """
    cfg = read_recipe(recipe)
    cfg.work_dir = str(settings.out)
    cfg.randomness = dict(seed=settings.seed, diff_rank_seed=True)
    cfg.optim_wrapper.cpu = True  # in bf16, if it multiplies in that
    cfg.optim_wrapper.optimizer.lr = settings.lr or lr * math.sqrt(batch * accumulate / 256)
    if accumulate > 1:
        cfg.optim_wrapper.accumulative_counts = accumulate
    cfg.log_processor = dict(by_epoch=False)
    cfg.auto_scale_lr = None
    return cfg


def add_budget(cfg: Config, settings: RunSettings, iterations: int) -> None:
    """Add the hook that ends a run after its ``minutes``; its number of iterations is a guess."""
    if settings.minutes is not None:
        cfg.custom_hooks.append(dict(type='coma_mm.BudgetHook', minutes=settings.minutes, planned=iterations))


def set_model(cfg: Config, settings: PretrainSettings, encoder: Encoder) -> None:
    """Set the model of a config: an encoder, its decoder, the method."""
    cfg.model.backbone = encoder.backbone
    cfg.model.decoder.update(encoder.decoder)
    cfg.model.update(METHODS[settings.method or DEFAULT_METHOD].model)
    if encoder.teacher:  # whose targets are new to the decoder, and first disturb features that are there
        cfg.model.update(TAUGHT.model, evaluation=encoder.teacher)
    elif settings.init and 'init_cfg' in encoder.decoder:
        cfg.model.keep_apart = 0.0  # features become alike at first, but not those for which the decoder is trained
    if settings.channels not in (None, 3):
        cfg.model.data_preprocessor.update(mean=[127.5], std=[64.0])  # of all channels; nothing is known of them
    cfg.model.data_preprocessor.update(encoder.normalisation)


def set_images(cfg: Config, settings: PretrainSettings, unit_size: int, batch: int) -> None:
    """Set the images that a config reads, and the batch."""
    set_loader(cfg.train_dataloader, settings, batch)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = list(settings.data)
    crop, flip, mask, _ = dataset.pipeline
    crop.scale = settings.size or DEFAULT_SIZE
    mask.update(input_size=crop.scale, unit_size=unit_size)
    mask.ratio = settings.mask_ratio or METHODS[settings.method or DEFAULT_METHOD].mask_ratio
    if settings.exclude:
        dataset.exclude = list(settings.exclude)
    if settings.crop_scale is not None:
        crop.crop_ratio_range = tuple(settings.crop_scale)
    if settings.no_flip:
        flip.prob = 0.0
    if settings.value_range is not None:
        crop.value_range = list(settings.value_range)
    if settings.max_pixels is not None:
        crop.max_pixels = settings.max_pixels
    if settings.channels not in (None, 3):
        crop.channels = settings.channels
    if settings.val:
        dataset.update(part='train', val=settings.val)
        held_out = held_out_dataset(dataset)
        for hook in cfg.custom_hooks:
            if type_name(hook.type) in EVALUATING:
                hook.dataset = held_out


def set_loader(loader: ConfigDict, settings: RunSettings, batch: int) -> None:
    """Set batch and workers of a loader."""
    workers = count_workers() if settings.workers is None else settings.workers
    loader.update(batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def set_intervals(cfg: Config, iterations: int, batch: int, labels: str | os.PathLike | None) -> None:
    """Set intervals by which a run saves, measures and draws about twenty times."""
    interval = max(1, math.ceil(iterations / EVALUATIONS))
    cfg.default_hooks.logger.interval = max(1, min(50, iterations // 100))
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=interval, max_keep_ckpts=2)
    for hook in cfg.custom_hooks:
        if hook.type == 'coma_mm.StopOnNaNHook':
            hook.interval = min(hook.interval, interval)
        elif type_name(hook.type) in EVALUATING:  # which count epochs in the config that this starts from
            probes = labels is not None and type_name(hook.type) == 'QualityHook'
            cost = EVALUATION_COST + PROBE_COST * probes
            hook.update(by_epoch=False, interval=max(interval, math.ceil(cost / EVALUATION_FRACTION / batch)))
            if probes:
                hook.labels = str(labels)


def set_schedule(cfg: Config, iterations: int) -> None:
    """Set the length and the schedule of a config: a tenth is warm-up, then comes a cosine."""
    warm_up = round(WARM_UP * iterations)
    if warm_up < 2:  # of one step: mmengine's would never end
        warm_up = 0
    cosine = dict(type='CosineAnnealingLR', by_epoch=False, begin=warm_up, end=iterations)
    cosine['T_max'] = max(1, iterations - warm_up)
    linear = dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=warm_up)
    cfg.param_scheduler = [linear, cosine] if warm_up else [cosine]
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations + 1)


def held_out_dataset(training: dict) -> dict:
    """Return the config of the images that a data set holds out: whole images, scaled and cut to squares."""
    crop, *_, mask, pack = training['pipeline']
    return {**training, 'part': 'val', 'pipeline': [take_middle(crop), mask, pack]}


def take_middle(crop: dict) -> dict:
    """Return a step that takes the largest square in the middle of an image, made of one for random crops."""
    # a square of the image's area does not fit into it: then the transform takes the central square
    return {**crop, 'crop_ratio_range': (1.0, 1.0), 'aspect_ratio_range': (1.0, 1.0), 'max_attempts': 1}


def count_workers() -> int:
    """Return how many processes to load images with: one for each core but one, 8 at most."""
    return max(0, min(8, count_cores() - 1))
