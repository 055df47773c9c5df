"""From any weights to features: the backbone, and how its images are read."""

import io
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints.pretrained import load_weights
from ..checkpoints.reading import get_state_dict, read_checkpoint
from ..datasets.loading import read_channels
from ..engine.common import read_loading, read_normalisation
from ..engine.runner.config_files import read_config
from ..engine.runner.run_folder import resolve_run
from ..models import FeatureExtractor
from ..utils.text import printable
from .source import check_types, find_backbone, find_normalisation, without_weights

TIMM = 'timm://'


@dataclass
class Weights:
    """A backbone with its weights, and how its images are read."""

    extractor: FeatureExtractor  # in the mode for that
    size: tuple[int, int]  # height and width of its images in pixels
    settings: dict  # of :func:`.datasets.read_image`
    cfg: Config | None = None  # with its ``model.backbone``; none for models of timm
    timm: str = ''  # name of such a model

    @property
    def normalisation(self) -> dict:
        """Mean and deviation of images, as settings of a data preprocessor."""
        read = self.extractor.data_preprocessor
        if not read._enable_normalize:
            return dict(mean=None, std=None)
        return {name: [round(x, 4) for x in getattr(read, name).flatten().tolist()] for name in ('mean', 'std')}

    @property
    def reading(self) -> dict:
        """Settings of a loading step, but for its defaults."""
        return {name: value for name, value in self.settings.items() if value is not None and value != 3}

    def draw_random(self, seed: int) -> FeatureExtractor:
        """Return the same backbone with random weights."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            backbone = _make_timm(self.timm) if self.cfg is None else without_weights(self.cfg.model.backbone.to_dict())
            extractor = FeatureExtractor(backbone, self.extractor.pool, self.extractor.data_preprocessor)
            if self.cfg is not None and hasattr(extractor.backbone, 'init_weights'):
                extractor.backbone.init_weights()
        return extractor.eval()


def open_weights(
    config: str | None,
    checkpoint: str,
    overrides: dict | None = None,
    pool: str = 'stats',
    size: int | None = None,
    max_pixels: int | None = None,
) -> Weights:
    """Build the backbone that weights are for, and load them.

    Args:
        config: A config with ``model.backbone``; if ``None`` the file says itself what it holds.
        checkpoint: A file or an address, or ``timm://NAME@FILE``, a model of timm and its weights.
        overrides: Of settings of the config.
        pool: See :class:`.models.FeatureExtractor`.
        size: Side of the images in pixels; the backbone's ``img_size`` if ``None``, or 224.
        max_pixels: Height times width beyond which an image is refused.
    """
    if checkpoint.startswith(TIMM):
        return _open_timm(checkpoint, size, max_pixels)
    read = read_checkpoint(checkpoint)
    cfg = read_config(config, overrides) if config else describe(read, checkpoint)
    extractor = build_extractor(cfg, pool)
    extractor.load_backbone(read, checkpoint)
    side = size or cfg.model.backbone.get('img_size', 224)
    height, width = (side, side) if isinstance(side, int) else side
    return Weights(extractor.eval(), (height, width), image_settings(cfg, read, max_pixels), cfg)


def open_for_training(name: str, size: int | None = None, max_pixels: int | None = None) -> tuple[Weights, dict]:
    """Open weights, and return them with the settings by which a config trains their backbone.

    Args:
        name: The folder of a run, a file that says what it holds, or an address. For others see :func:`open_weights`.
    """
    config, checkpoint, _ = resolve_run([os.path.expanduser(name)], 'give WEIGHTS')
    with redirect_stdout(io.StringIO()):  # what the log says of them, it says again when they are loaded to be trained
        weights = open_weights(config, checkpoint, size=size, max_pixels=max_pixels)
    if weights.cfg is None:
        raise ValueError(f'{name} is a model of timm, whose features can be compared, and no more')
    settings = without_weights(weights.cfg.model.backbone.to_dict())
    if '.' not in str(settings['type']):
        settings['_scope_'] = weights.cfg.get('default_scope') or 'mmengine'
    place = checkpoint if '://' in checkpoint else os.path.abspath(os.path.expanduser(checkpoint))
    return weights, settings | dict(init_cfg=dict(type='coma_mm.Pretrained', checkpoint=place))


def build_extractor(cfg: Config, pool: str) -> FeatureExtractor:
    """Build the backbone with the normalisation that the config trains it with."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    if not (cfg.get('model') or {}).get('backbone'):
        raise ValueError(f'{cfg.filename} has no model.backbone')
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    normalisation = read_normalisation(settings, str(cfg.get('train_dataloader') or cfg.get('test_dataloader')))
    preprocessor = dict(
        type='mmengine.ImgDataPreprocessor',
        mean=normalisation['mean'],
        std=normalisation['std'],
        rgb_to_bgr=normalisation['channel_order'] == 'BGR',  # images come in RGB here
    )
    return FeatureExtractor(cfg.model.backbone, pool, preprocessor)


def describe(read: dict, checkpoint: str) -> Config:
    """Return what a checkpoint itself says of its backbone, and of how its images come in."""
    try:
        backbone, scope, _ = find_backbone(read, None)
        check_types(backbone, scope)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from None
    known = find_normalisation(read)
    if not known.get('mean'):
        warning = f'{checkpoint} states no mean and std, so images are not normalised (0 to 255)'
        print(printable(f'warning: {warning}; if it has a config, put that before it'), file=sys.stderr, flush=True)
    is_bgr = known.get('channel_order') == 'BGR'
    preprocessor = dict(mean=known.get('mean'), std=known.get('std'), rgb_to_bgr=is_bgr)
    return Config(dict(default_scope=scope, model=dict(backbone=backbone, data_preprocessor=preprocessor)))


def image_settings(cfg: dict, checkpoint: dict, max_pixels: int | None) -> dict:
    """Return ``channels``, ``value_range`` and ``max_pixels`` as :func:`.read_image` takes them.

    The pipeline of the config decides, or else the channels that its backbone takes. What the checkpoint says of
    ``value_range`` holds if the config says nothing.
    """
    settings = read_loading(cfg)
    known = find_normalisation(checkpoint)
    if settings.get('value_range') is None and known.get('channels') == settings['channels']:
        settings['value_range'] = known.get('value_range')
    if max_pixels is not None:
        settings['max_pixels'] = max_pixels
    settings['channels'], settings['value_range'] = read_channels(settings['channels'], settings.get('value_range'))
    return settings


def _open_timm(address: str, size: int | None, max_pixels: int | None) -> Weights:
    """Build a model of timm and load its weights from a file; nothing is downloaded."""
    name, at, file = address.removeprefix(TIMM).partition('@')
    if not at or not name or not file:
        raise ValueError(f'{address} names no file of weights: write timm://NAME@FILE')
    model = _make_timm(name)
    data = model.pretrained_cfg
    heads = data.get('classifier') or ()
    heads = tuple(f'{head}.' for head in ((heads,) if isinstance(heads, str) else heads))
    weights = get_state_dict(read_checkpoint(file))
    load_weights(model, weights, file, lambda key: key.startswith(heads))
    preprocessor = dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[255 * value for value in data['mean']],
        std=[255 * value for value in data['std']],
    )
    channels, height, width = data['input_size']
    settings = dict(channels=channels, value_range=None, **({} if max_pixels is None else dict(max_pixels=max_pixels)))
    extractor = FeatureExtractor(model, 'stats', preprocessor).eval()
    return Weights(extractor, (size or height, size or width), settings, timm=name)


def _make_timm(name: str) -> nn.Module:
    """Return a model of timm with random weights."""
    try:
        import timm
    except ImportError:
        raise ValueError(f'timm://{name} takes timm: pip install timm') from None
    if not timm.is_model(name):
        raise ValueError(f'timm has no model {name!r}; timm.list_models() has the names')
    return timm.create_model(name, num_classes=0)
