"""A backbone and its linear classifier as one graph."""

import json

from torch import Tensor, nn

from ..checkpoints.reading import get_state_dict
from ..checkpoints.settings import read_meta


class Classifier(nn.Module):
    """A backbone, the mean of its last map, and a linear layer; ``(B, C, H, W)`` in, scores ``(B, classes)`` out.

    Args:
        backbone: With its weights.
        checkpoint: Of an ``ImageClassifier`` of mmpretrain with a ``LinearClsHead``.
    """

    def __init__(self, backbone: nn.Module, checkpoint: dict):
        super().__init__()
        weights = get_state_dict(checkpoint)
        if not {'head.fc.weight', 'head.fc.bias'} <= weights.keys() or weights['head.fc.weight'].dim() != 2:
            raise ValueError('the checkpoint has no linear head (head.fc) of a classifier: leave --head out')
        if learnt := next((name for name in weights if name.startswith('neck.')), None):
            raise ValueError(
                f'the classifier has a neck with weights ({learnt}), which --head cannot export: leave --head out'
            )
        self.backbone = backbone
        for name in ('unit_size', 'img_size', 'attn_window'):
            if hasattr(backbone, name):
                setattr(self, name, getattr(backbone, name))
        self.fc = nn.Linear(*weights['head.fc.weight'].shape[::-1])
        self.fc.load_state_dict({name: weights[f'head.fc.{name}'] for name in ('weight', 'bias')})
        known = read_meta(checkpoint).get('dataset_meta')
        names = known.get('classes') if isinstance(known, dict) else None
        self.classes = json.dumps([str(name) for name in names] if isinstance(names, (list, tuple)) else None)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images)
        last = maps if isinstance(maps, Tensor) else maps[-1]
        return self.fc(last.flatten(2).mean(2) if last.dim() == 4 else last)
