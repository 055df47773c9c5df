"""The picture of a CoMA model at work: the input of each branch, their reconstruction, and its error."""

import os
from collections.abc import Sequence

import numpy as np
from torch import Tensor

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
        f'{own:.1f} dB\n{baseline_is} {baseline:.1f} dB\n{own - baseline:+.1f} dB'
        for own, baseline in zip(r.psnr, r.baseline)
    ]
    if names:
        labels = [f'{shorten(str(name))}\n\n{label}' for name, label in zip(names, labels)]
    return ImageGrid(columns, labels, caption, {of_error: 'inferno'}).finish(path)
