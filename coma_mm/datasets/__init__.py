"""Data sets of images, and transforms that load, crop and mask them, to go with those of the toolboxes."""

from .cifar import CIFAR, read_images
from .complementary_mask import ComplementaryMask, PackMaskedImage
from .folder import ImageFolder
from .labelled import ClassFolder, LabelledFolder
from .loading import LoadImage, ReverseChannels, UnreadableImageError, read_image
from .part_sampler import PartSampler
from .photos import PHOTOS, Digits, Photos, load_digits_images
from .random_resized_crop import LoadRandomResizedCrop
from .shards import ImageShards

__all__ = [
    'CIFAR',
    'PHOTOS',
    'ClassFolder',
    'ComplementaryMask',
    'Digits',
    'ImageFolder',
    'ImageShards',
    'LabelledFolder',
    'LoadImage',
    'LoadRandomResizedCrop',
    'PackMaskedImage',
    'PartSampler',
    'Photos',
    'ReverseChannels',
    'UnreadableImageError',
    'load_digits_images',
    'read_image',
    'read_images',
]
