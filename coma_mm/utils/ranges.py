"""Ranges of numbers that settings may have: one table for commands, functions and configs."""

import os

from .arguments import Range, require_in, whole

__all__ = ['Range', 'require_in', 'whole']

# The limits are those of the work that follows, see docs/reliability.md.
ANY = Range()
POSITIVE = Range(0, above=True)
MAX_PIXELS = whole(1, 2**31 - 1)  # of an image, which Pillow and OpenCV count in 32 bits
LEARNING_RATE = Range(0, 1000, above=True)
FRACTION = Range(0, 1, below=True)
MASK_RATIO = Range(0, 1, above=True, below=True)
CROP_SCALE = Range(0, 1, above=True)  # share of an image's area
PORT = whole(0, 65_535)
SEED = whole(0, 2**31 - 1)  # ranks and loading workers add their number, and numpy takes 32 bits
IMAGE_SIZE = whole(1, 16_384)  # side in pixels
BATCH_SIZE = whole(1, 65_536)  # images
STEPS = whole(1, 10**9)
EPOCHS = Range(0, 10**6, above=True)
MINUTES = Range(0, 10**6, above=True)  # two years
CHANNELS = whole(1, 1024)
ROWS = whole(1, 1000)  # of a picture
WORKERS = whole(0, 8 * (os.cpu_count() or 1))
