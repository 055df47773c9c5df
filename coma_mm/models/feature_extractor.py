"""One feature vector per image, from any backbone.

Shapes: B images, H x W pixels or positions of a map, C channels of an image or a map, or numbers of a feature.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..checkpoints.pretrained import load_backbone
from ..registry import MODELS
from ..utils.arguments import did_you_mean
from ..utils.configs import type_name

POOLS = 'mean', 'stats', 'flat'


def require_pool(pool: str) -> None:
    """Raise unless :class:`FeatureExtractor` knows a way to pool."""
    if pool not in POOLS:
        raise ValueError(f'pool must be one of {", ".join(POOLS)}, got {pool!r}{did_you_mean(pool, POOLS)}')


def pool_maps(maps: Sequence[Tensor], pool: str) -> Tensor:
    """Return a vector ``(B, C)`` for each image, see :class:`FeatureExtractor`; what is no map counts as it is."""
    parts: list[Tensor] = []
    for values in maps[-2 if pool == 'stats' else -1 :]:
        if values.dim() != 4 or pool == 'flat':
            parts.append(values.flatten(1))
        elif pool == 'mean':
            parts.append(values.flatten(2).mean(2))
        else:
            parts += torch.std_mean(values, (2, 3), correction=0)[::-1]
    return torch.cat(parts, 1)


@MODELS.register_module()
class FeatureExtractor(BaseModel):
    """Extractor of one feature vector per image, from the last maps of a backbone, for kNN and the like.

    Args:
        backbone: config or module; ``backbone(images)`` returns maps ``(B, C, H, W)``, of which the last ones count.
        pool: ``'mean'`` averages the last map over its positions. ``'stats'`` takes mean and standard deviation of the
            last two maps, or of the only one; a DyViT that is built here has two. ``'flat'`` puts all positions of the
            last map side by side, for images that are aligned.
        data_preprocessor: config or module, such as ``ClsDataPreprocessor`` of mmpretrain.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        pool: str = 'mean',
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        require_pool(pool)
        if isinstance(backbone, dict) and pool == 'stats' and type_name(backbone['type']) == 'DyViT':
            if 3 in backbone.get('out_indices', (3,)):
                backbone = {**backbone, 'out_indices': (2, 3)}
        self.backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        self.pool = pool

    def forward(self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'tensor') -> Tensor | Sequence:
        """Compute features of normalised images.

        Args:
            inputs: ``(B, C, H, W)``.
            data_samples: one for each image, such as its label.
            mode: ``'tensor'`` or ``'predict'``.

        Returns:
            The features ``(B, C)``, or with ``'predict'`` the data samples, each with its ``feature`` ``(C,)``.

        Raises:
            RuntimeError: in another mode; there is nothing to train.
        """
        if mode not in ('tensor', 'predict'):
            raise RuntimeError(f"FeatureExtractor has the modes 'tensor' and 'predict', got {mode!r}")
        maps = self.backbone(inputs)
        features = pool_maps([maps] if isinstance(maps, Tensor) else maps, self.pool)
        if mode == 'tensor':
            return features
        data_samples = data_samples or [BaseDataElement() for _ in features]
        for sample, feature in zip(data_samples, features, strict=True):
            sample.feature = feature
        return data_samples

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Return the features of normalised images, for mmpretrain's inferencer of this class's name."""
        return self(inputs)

    def load_backbone(self, checkpoint: dict, source: str) -> None:
        """Load the backbone from any checkpoint that holds one, see :func:`.pretrained.load_backbone`."""
        load_backbone(self.backbone, checkpoint, source)
