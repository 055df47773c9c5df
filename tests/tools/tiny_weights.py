"""Weights of a tiny backbone, in a file that says what they are, and images for it."""

import json

import numpy as np
import torch
from PIL import Image

from coma_mm.models import DyViT

ARCH = dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4))
MEAN = [120.0, 110.0, 100.0]


def write_weights(path, **settings):
    settings = dict(arch=ARCH, img_size=32, patch_size=2) | settings
    channels = 3 if settings.get('in_channels', 3) == 3 else 1
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT', **settings)), scope='mmpretrain')
    meta |= dict(mean=json.dumps((MEAN * channels)[:channels]), std=json.dumps([60.0] * channels))
    torch.save(dict(state_dict=DyViT(**settings).state_dict(), meta=meta), path)
    return path


def save(path, level, seed=0):
    """Write a photo of noise about a level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = level + np.random.default_rng(seed).integers(60, size=(32, 40, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
