"""Transforms for the mask of an image: one draws it, another packs it with the image as a pipeline's last step."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL.Image import Image

from ..masking import num_hidden, unit_grid
from ..registry import TRANSFORMS
from ..utils.arguments import did_you_mean, read_size, require_number, require_whole


@TRANSFORMS.register_module()
class ComplementaryMask(BaseTransform):
    """Transform that draws the units hidden from the adaptive branch; the evaluation branch sees exactly those.

    The mask has ``round(ratio * units)`` ones, whatever the strategy. Every unit is equally likely to be one of them.
    Draws come from NumPy's global generator, as in all transforms of the toolboxes.

    Required keys: none. If there is an ``img`` (array ``(H, W, C)``, tensor ``(C, H, W)`` or PIL image), its size is
    checked.

    Added keys:

    - ``mask`` (np.ndarray): Bool, ``(H / unit_size, W / unit_size)``, True = hidden from the adaptive branch. The key
      is one that mmpretrain's ``PackInputs`` packs into the data sample, as a tensor.

    Args:
        input_size: Side, or height and width, of the image in pixels: multiples of the unit.
        unit_size: Side of a mask unit in pixels: 8 times the patch size of DyViT, the patch size of a plain ViT.
        ratio: Fraction of the units to hide. The paper's is 0.6.
        strategy: ``random``, any set of units is as likely as any other; or ``stratified``, the hidden units are spread
            evenly: each neighbourhood of 2x2 units (2x1, 1x2 or 1x1 at the border of an odd grid) holds its share of
            them, rounded up or down.

    Raises:
        ValueError: If the ratio leaves a branch without units, the size is not a multiple of the unit, the strategy
            is unknown, or an image is not of ``input_size``.
    """

    def __init__(
        self, input_size: int | tuple[int, int], unit_size: int = 32, ratio: float = 0.6, strategy: str = 'random'
    ) -> None:
        strategies = dict(random=self._draw_random, stratified=self._draw_stratified)
        if strategy not in strategies:
            raise ValueError(
                f'unknown mask strategy {strategy!r}: choose one of {list(strategies)}'
                + did_you_mean(strategy, strategies)
            )
        require_whole(1, unit_size=unit_size)
        require_number('(-inf, inf)', ratio=ratio)
        self.input_size = read_size('input_size', input_size)
        self.unit_size, self.ratio, self.strategy = unit_size, ratio, strategy
        self.grid = rows, cols = unit_grid(self.input_size, unit_size)
        self.num_units = rows * cols
        self.num_hidden = num_hidden(self.num_units, ratio)
        self.draw = strategies[strategy]
        # number of the 2x2 neighbourhood that each unit belongs to, row by row
        row, col = np.divmod(np.arange(self.num_units), cols)
        self.neighbourhood = (row // 2) * ((cols + 1) // 2) + col // 2

    def transform(self, results: dict) -> dict:
        if 'img' in results:
            self._check_size(results['img'])
        results['mask'] = self.draw().reshape(self.grid)
        return results

    def _draw_random(self) -> np.ndarray:
        return np.random.permutation(self.num_units) < self.num_hidden

    def _draw_stratified(self) -> np.ndarray:
        """Draw by systematic sampling along the units, listed neighbourhood by neighbourhood.

        The ones are spread over the list as evenly as integers allow, from a random start (a Bresenham line). So every
        run of the list gets its share of them, rounded up or down, and a neighbourhood is such a run. The
        neighbourhoods are shuffled, and so are the units in each.
        """
        shuffled = np.random.permutation(self.neighbourhood[-1] + 1)[self.neighbourhood]
        units = np.lexsort((np.random.permutation(self.num_units), shuffled))
        start = np.random.randint(self.num_units)
        mask = np.empty(self.num_units, dtype=bool)
        mask[units] = (np.arange(self.num_units) * self.num_hidden + start) % self.num_units < self.num_hidden
        return mask

    def _check_size(self, img: np.ndarray | torch.Tensor | Image) -> None:
        if isinstance(img, torch.Tensor):
            size = tuple(img.shape[-2:])
        elif isinstance(img, np.ndarray):
            size = img.shape[:2]
        else:
            size = img.size[::-1]  # PIL
        if size != self.input_size:
            raise ValueError(
                f'ComplementaryMask got an image of (height, width) = {size} but has input_size={self.input_size}: '
                'make the crop or resize before it give that size, or change input_size'
            )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(input_size={self.input_size}, unit_size={self.unit_size}, ratio={self.ratio}, '
            f'strategy={self.strategy!r})'
        )


@TRANSFORMS.register_module()
class PackMaskedImage(BaseTransform):
    """Transform that packs an image and the numbers of its units as plain tensors.

    Models read the mask ratio from the lengths of the two lists of numbers. Use ``default_collate`` with it: a batch
    then has one tensor of each kind. mmpretrain's ``PackInputs`` makes a ``DataSample`` per image instead. These are
    sent from the worker and moved to the GPU one by one.

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
