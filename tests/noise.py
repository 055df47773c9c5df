"""Images of noise, and masks."""

import numpy as np
from PIL import Image


def write_noise(path, size=(48, 48), classes=None, seed=0):
    """Write an image in colour, or a mask of some classes; ``size`` is its height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if classes else (*size, 3)
    Image.fromarray(np.random.default_rng(seed).integers(classes or 256, size=shape, dtype=np.uint8)).save(path)
