"""Images of noise, masks, and images of one shade."""

import numpy as np
from PIL import Image


def write_noise(path, size=(48, 48), classes=None, seed=0):
    """Write an image in colour, or a mask of some classes; ``size`` is its height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if classes else (*size, 3)
    Image.fromarray(np.random.default_rng(seed).integers(classes or 256, size=shape, dtype=np.uint8)).save(path)


def write_shade(path, value=0, size=(8, 6)):
    """Write a grey image in colour; ``size`` is its width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value,) * 3).save(path)
