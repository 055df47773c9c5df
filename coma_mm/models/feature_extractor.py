"""One feature vector per image, from any backbone.

Shapes: B images, H x W pixels or positions of a map, C channels of an image, a map or a feature.
"""

from collections.abc import Sequence

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..checkpoints.pretrained import load_backbone
from ..registry import MODELS
from ..utils.arguments import require_flag


@MODELS.register_module()
class FeatureExtractor(BaseModel):
    """Extractor of one feature vector per image, from the last map of a backbone, for kNN and the like.

    Args:
        backbone: config or module; ``backbone(images)`` returns maps ``(B, C, H, W)``, of which the last counts.
        pool: average the map over its positions, which gives C features. Otherwise all positions stand side by side,
            for images that are aligned.
        data_preprocessor: config or module, such as ``ClsDataPreprocessor`` of mmpretrain.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        pool: bool = True,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        require_flag(pool=pool)
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
        last = maps if isinstance(maps, Tensor) else maps[-1]
        features = last.flatten(2).mean(2) if self.pool and last.dim() == 4 else last.flatten(1)
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
