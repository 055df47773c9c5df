"""BatchNorm between a frozen backbone and a linear layer.

Shapes: B images, C channels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.arguments import require_flag, require_whole


@MODELS.register_module()
class BatchNormNeck(BaseModule):
    """mmpretrain's ``ClsBatchNormNeck``, which also takes a batch of one image, as the last one of an epoch may be.

    One image has no statistics of its own: it is normalised by the running ones, which it does not change. Arguments
    and names of weights are those of ``ClsBatchNormNeck``.

    Args:
        input_features: C.
        affine: whether there are a weight and a bias to learn.
        eps: added to the variance.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(self, input_features: int, affine: bool = False, eps: float = 1e-6, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        require_whole(1, input_features=input_features)
        require_flag(affine=affine)
        self.bn = nn.BatchNorm1d(input_features, affine=affine, eps=eps)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Normalise vectors ``(B, C)``, for each of several outputs of a backbone."""
        return tuple(self._normalize(x) if self.training and len(x) < 2 else self.bn(x) for x in inputs)

    def _normalize(self, x: Tensor) -> Tensor:
        bn = self.bn
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, eps=bn.eps)
