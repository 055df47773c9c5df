"""Pictures of what each branch sees: of a CoMA model at work, and of the images that training gets."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageOps
from torch import Tensor

from ..datasets import read_image
from ..datasets.loading import to_picture
from ..evaluation import Reconstructions
from .figures import ImageGrid, drawn, shorten

GREY = 0.5  # of units that a branch does not see
ERROR_SCALE = 0.5  # absolute error drawn as the brightest colour; fixed, so that pictures can be compared


def what_branches_see(images: Tensor, mask: Tensor, unit_size: int) -> dict[str, Tensor]:
    """Return images ``(B, C, H, W)`` as each branch sees them, by titles; ``mask``: ``(B, Hu, Wu)``, of the first."""
    hidden = mask[:, None].repeat_interleave(unit_size, 2).repeat_interleave(unit_size, 3)
    return {
        'the adaptive branch\nsees': images.masked_fill(hidden, GREY),
        'the evaluation branch\nsees': images.masked_fill(~hidden, GREY),
    }


def draw_reconstructions(
    reconstructions: Reconstructions, path: str | os.PathLike | None = None, names: Sequence[str] = ()
) -> np.ndarray:
    """Draw a row per image, and write the picture, replacing an earlier one only once it is complete.

    Of more than three channels the first three are drawn, of fewer the first in grey. Errors and PSNR are those of all.

    Args:
        path: Any file type that matplotlib's Agg can write, by its suffix; ``None`` writes nothing.
        names: One per image, for the row labels.

    Returns:
        The picture, ``(H, W, 3)``, uint8, RGB.

    Raises:
        ValueError: If there are not as many names as images.
    """
    r = reconstructions
    if names and len(names) != len(r.originals):
        raise ValueError(f'{len(names)} names for {len(r.originals)} images')
    error = (r.originals - r.assembled).abs().mean(1, keepdim=True) / ERROR_SCALE
    originals = drawn(r.originals)
    columns = {'original': originals, **what_branches_see(originals, r.mask, r.unit_size)}
    caption = 'Each unit of the reconstruction is predicted by the branch that did not see it.'
    if r.means is not None:
        columns['mean brightness of each\nunit, from the original'] = drawn(r.means)
        baseline_is = 'means'
        caption += (
            '\nThe model predicts the structure of each unit. Its mean brightness and contrast come from the original.'
            '\nPSNR of the reconstruction; of these means alone; and the gain, which is what the model adds.'
        )
    else:
        baseline_is = 'baseline'
        caption += (
            '\nPSNR of the reconstruction; of the baseline, which fills each unit with the mean colour of its visible '
            'neighbours; and the gain.'
        )
    of_error = f'absolute error\n(0 black, {ERROR_SCALE:g} and more bright)'
    columns |= {'assembled\nreconstruction': drawn(r.assembled), of_error: error}
    labels = [
        f'{own:.1f} dB\n{baseline_is} {baseline:.1f} dB\n{round(own - baseline, 1) + 0.0:+.1f} dB'  # no -0.0
        for own, baseline in zip(r.psnr.tolist(), r.baseline.tolist())
    ]
    if names:
        labels = [f'{shorten(str(name))}\n\n{label}' for name, label in zip(names, labels)]
    return ImageGrid(columns, labels, caption, {of_error: 'inferno'}).finish(path)


def mask_of(sample: Any, height: int, width: int) -> Tensor | None:
    """Return the mask ``(Hu, Wu)`` of a sample, which has it or the numbers of its units; ``None`` without either."""
    if 'ids_mask' in sample and 'ids_keep' in sample:
        ids = torch.as_tensor(sample['ids_mask'])
        mask = torch.zeros(len(ids) + len(sample['ids_keep']), dtype=torch.bool).index_fill(0, ids, True)
        unit = round((height * width / len(mask)) ** 0.5)
        return mask.view(height // unit, width // unit)
    return torch.as_tensor(sample.get('mask')) if 'mask' in sample else None


def make_columns(items: list[dict], is_bgr: bool = False, settings: dict | None = None) -> dict[str, Tensor]:
    """Return columns for images of training: the files, the inputs, and what each branch sees if there are masks.

    Args:
        items: Packed, ``inputs`` of ``(C, H, W)`` each, of which the first three channels are drawn, or a grey one.
        is_bgr: Whether three channels are blue, green, red.
        settings: Arguments of :func:`.read_image`, for the files.
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
