"""The models. They need torch and mmengine alone, but for :mod:`.masked_vit` and :mod:`.masked_hiera`."""

from mmengine.registry import MODELS as ROOT_MODELS

from ..checkpoints.pretrained import Pretrained, load_backbone
from ..checkpoints.reading import read_checkpoint
from .architectures import ARCHITECTURES
from .attention import DMMSA, MSA
from .batch_norm_neck import BatchNormNeck
from .coma import CoMA
from .decoders import ConvNeXtDecoder, ViTDecoder
from .dyvit import DyViT
from .feature_extractor import FeatureExtractor

# So that a bare type='DyViT' is found under any default scope once this package is imported (custom_imports).
if 'DyViT' not in ROOT_MODELS.module_dict:
    ROOT_MODELS.register_module(module=DyViT)

__all__ = [
    'ARCHITECTURES',
    'BatchNormNeck',
    'CoMA',
    'ConvNeXtDecoder',
    'DMMSA',
    'DyViT',
    'FeatureExtractor',
    'MSA',
    'Pretrained',
    'ViTDecoder',
    'load_backbone',
    'read_checkpoint',
]
