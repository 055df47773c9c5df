"""The last step of a pipeline: the image and its masked units as tensors, and nothing else."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackMaskedImage(BaseTransform):
    """Pack an image and the numbers of its masked units as plain tensors, so that a batch has one tensor of each.

    How long the two lists are is the mask ratio: models read it there.

    mmpretrain's ``PackInputs`` makes a ``DataSample`` per image instead, which has to be sent from the worker and moved
    to the GPU one by one. Goes with ``collate_fn=dict(type='default_collate')``.

    Required keys: ``img`` (uint8, ``(H, W, C)``, or ``(H, W)`` as OpenCV leaves grey images), ``mask`` (bool,
    ``(Hu, Wu)``), and optionally ``img_path``.

    Returns ``inputs`` (uint8 tensor, ``(C, H, W)``) and ``data_samples``, a dict of ``img_path`` and two int64 tensors,
    row-major numbers of units: ``ids_keep``, which the adaptive branch sees, and ``ids_mask``, which it does not.
    """

    def transform(self, results: dict) -> dict:
        hidden = results['mask'].ravel()
        sample = {
            name: torch.from_numpy(np.flatnonzero(part)) for name, part in (('ids_keep', ~hidden), ('ids_mask', hidden))
        }
        if 'img_path' in results:
            sample['img_path'] = results['img_path']
        img = np.atleast_3d(results['img']).transpose(2, 0, 1)
        return dict(inputs=torch.from_numpy(np.ascontiguousarray(img)), data_samples=sample)
