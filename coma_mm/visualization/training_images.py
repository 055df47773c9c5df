"""The images that training gets, beside their files and what each branch sees of them."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageOps
from torch import Tensor

from ..datasets import read_image
from ..datasets.loading import to_picture
from .figures import drawn
from .reconstruction import what_branches_see


def mask_of(sample: Any, height: int, width: int) -> Tensor | None:
    """Return the mask ``(Hu, Wu)`` of a sample, which has it or the numbers of its units; ``None`` without either."""
    if 'ids_mask' in sample and 'ids_keep' in sample:
        ids = torch.as_tensor(sample['ids_mask'])
        mask = torch.zeros(len(ids) + len(sample['ids_keep']), dtype=torch.bool).index_fill(0, ids, True)
        unit = round((height * width / len(mask)) ** 0.5)
        return mask.view(height // unit, width // unit)
    return torch.as_tensor(sample.get('mask')) if 'mask' in sample else None


def make_columns(items: list[dict], is_bgr: bool = False, settings: dict | None = None) -> dict[str, Tensor]:
    """Return the columns of the picture: the files, the inputs, and what each branch sees of them if there are masks.

    Args:
        items: Packed, ``inputs`` of ``(C, H, W)`` each, of which the first three channels are drawn, or a grey one.
        is_bgr: Whether three channels are blue, green, red.
        settings: Of :func:`.read_image`, for the files.
    """
    inputs = [torch.as_tensor(item['inputs']).float() / 255 for item in items]
    inputs = [image[[2, 1, 0]] if is_bgr and len(image) == 3 else image for image in inputs]
    inputs = [drawn(image[None])[0].expand(3, -1, -1).clamp(0, 1) for image in inputs]
    height, width = (max(image.shape[axis] for image in inputs) for axis in (1, 2))
    inputs = torch.stack(
        [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=1) for image in inputs]
    )
    columns = {}
    paths = [item['data_samples'].get('img_path') for item in items]
    if all(path and not path.startswith('tar://') for path in paths):
        files = [to_picture(read_image(path, **settings or {})) for path in paths]
        files = [ImageOps.pad(image, (width, height), color='white') for image in files]
        columns['the file'] = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in files])
    columns['the model gets'] = inputs
    masks = [mask_of(item['data_samples'], height, width) for item in items]
    if all(mask is not None for mask in masks):
        mask = torch.stack(masks)
        columns |= what_branches_see(inputs, mask, height // mask.shape[1])
    return columns
