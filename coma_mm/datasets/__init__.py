"""Images and masks. Image data sets and transforms that the toolboxes' own ones go well with."""

from .complementary_mask import ComplementaryMask
from .folder import ImageFolder
from .loading import LoadImage, UnreadableImageError, read_image
from .photos import PHOTOS, Digits, Photos, load_digits_images

__all__ = [
    'PHOTOS',
    'ComplementaryMask',
    'Digits',
    'ImageFolder',
    'LoadImage',
    'Photos',
    'UnreadableImageError',
    'load_digits_images',
    'read_image',
]
