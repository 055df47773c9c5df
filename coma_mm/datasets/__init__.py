"""Images and masks. Image data sets and transforms that the toolboxes' own ones go well with."""

from .complementary_mask import ComplementaryMask
from .folder import ImageFolder
from .loading import LoadImage, ReverseChannels, UnreadableImageError, read_image
from .packing import PackMaskedImage
from .photos import PHOTOS, Digits, Photos, load_digits_images
from .random_resized_crop import LoadRandomResizedCrop
from .shards import ImageShards

__all__ = [
    'PHOTOS',
    'ComplementaryMask',
    'Digits',
    'ImageFolder',
    'ImageShards',
    'LoadImage',
    'LoadRandomResizedCrop',
    'PackMaskedImage',
    'Photos',
    'ReverseChannels',
    'UnreadableImageError',
    'load_digits_images',
    'read_image',
]
