"""The picture of a CoMA model at work: what each branch sees, what they make of it, and how far off that is."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..evaluation import mean_colour_baseline, psnr
from ..files import whole_file

GREY = 0.5  # of units that a branch does not see
ERROR_SCALE = 0.5  # absolute error drawn as the brightest colour; fixed, so that pictures can be compared


@dataclass
class Reconstructions:
    """A batch of images and what a model made of them, on the CPU.

    Args:
        originals: (B, C, H, W), RGB, grey or of any number of channels, in [0, 1].
        assembled: The same of the assembled reconstruction: no unit was seen by the branch that predicted it.
        mask: (B, H / unit, W / unit), bool, True = hidden from the adaptive branch.
        unit_size: In pixels.
        norm_pix: Whether each unit's mean and variance were taken from the original.
    """

    originals: Tensor
    assembled: Tensor
    mask: Tensor
    unit_size: int
    norm_pix: bool

    @cached_property
    def psnr(self) -> Tensor:
        """Of the reconstruction, in dB: (B,)."""
        return psnr(self.originals, self.assembled)

    @cached_property
    def baseline(self) -> Tensor:
        """PSNR of filling each unit with the mean colour of its visible neighbours, in dB: (B,)."""
        return psnr(self.originals, mean_colour_baseline(self.originals, self.mask, self.unit_size))

    def summary(self) -> str:
        """Return one line on the average of all images."""
        note = ' (not comparable: unit mean and variance taken from the original)' if self.norm_pix else ''
        return _compare(self.psnr.mean(), self.baseline.mean()) + note

    def report(self, names: Sequence[str]) -> str:
        """Return a line per image and one on their average."""
        lines = [f'{name}: {_compare(*values)}' for name, *values in zip(names, self.psnr, self.baseline, strict=True)]
        return '\n'.join([*lines, f'average of {len(lines)}: {self.summary()}'])


def _compare(reconstruction: Tensor, baseline: Tensor) -> str:
    gain = reconstruction - baseline
    return f'reconstruction {reconstruction:.1f} dB, mean-colour baseline {baseline:.1f} dB: {gain:+.1f} dB'


def reconstruct_images(model: nn.Module, images: Tensor, mask: Tensor) -> Reconstructions:
    """Let a :class:`coma_mm.models.CoMA` reconstruct images.

    Args:
        model: On any device.
        images: (B, C, H, W), such as RGB, uint8, as pipelines hand them to the model's data preprocessor.
        mask: (B, H / unit, W / unit), bool, True = hidden from the adaptive branch.
    """
    preprocessor = model.data_preprocessor
    inputs = preprocessor(dict(inputs=images, data_samples=None))['inputs'].to(torch.float32)
    assembled = model.reconstruct(inputs, mask.to(inputs.device))
    mean, std = getattr(preprocessor, 'mean', 0.0), getattr(preprocessor, 'std', 1.0)

    def to_pixels(normalised: Tensor) -> Tensor:
        return ((normalised.float() * std + mean) / 255).clamp(0, 1).cpu()

    return Reconstructions(to_pixels(inputs), to_pixels(assembled), mask.cpu(), model.unit_size, model.norm_pix)


def draw_reconstructions(reconstructions: Reconstructions, path: str | os.PathLike, names: Sequence[str] = ()) -> None:
    """Write the picture, a row per image, replacing an earlier one only once it is complete.

    Of more than three channels the first three are drawn, of fewer the first in grey. Errors and PSNR are those of all.

    Args:
        reconstructions: What to draw.
        path: Any file type that matplotlib's Agg can write, by its suffix.
        names: One per image, for the row labels.
    """
    r = reconstructions
    hidden = r.mask[:, None].repeat_interleave(r.unit_size, 2).repeat_interleave(r.unit_size, 3)
    error = (r.originals - r.assembled).abs().mean(1, keepdim=True) / ERROR_SCALE
    drawn = slice(3 if r.originals.shape[1] >= 3 else 1)
    originals = r.originals[:, drawn]
    columns = {
        'original': originals,
        'the adaptive branch\nsees': originals.masked_fill(hidden, GREY),
        'the evaluation branch\nsees': originals.masked_fill(~hidden, GREY),
        'assembled\nreconstruction': r.assembled[:, drawn],
        f'absolute error\n(0 black, {ERROR_SCALE:g} and more bright)': error,
    }
    caption = 'Each unit of the reconstruction is predicted by the branch that did not see it.'
    if r.norm_pix:
        caption += (
            '\nThe model predicts normalised units: the mean and variance of each unit are taken from the original,'
            '\nso PSNR is too kind to it and not comparable to the baseline.'
        )
    caption += (
        '\nPSNR of the reconstruction; of the baseline, which fills each unit with the mean colour of its visible '
        'neighbours; and the gain.'
    )

    rows, (height, width) = len(r.originals), r.originals.shape[-2:]
    # In inches: cells with equal areas whatever the shape of the images, room for labels around them.
    cell_height, cell_width = 1.7 * (height / width) ** 0.5, 1.7 * (width / height) ** 0.5
    left, right, top, bottom, gap = 1.55, 0.1, 0.55, 0.75, 0.06
    total_width = left + 5 * (cell_width + gap) + right
    total_height = top + rows * (cell_height + gap) + bottom
    # Figure and canvas are made by hand: pyplot would keep global state and choose a backend for the whole process.
    figure = Figure(figsize=(total_width, total_height), dpi=110)
    FigureCanvasAgg(figure)
    for i in range(rows):
        y = total_height - top - i * (cell_height + gap) - cell_height
        for j, (title, images) in enumerate(columns.items()):
            x = left + j * (cell_width + gap)
            axes = figure.add_axes(
                (x / total_width, y / total_height, cell_width / total_width, cell_height / total_height)
            )
            axes.set_axis_off()
            # Nearest: small inputs stay the pixels they are.
            axes.imshow(
                images[i].permute(1, 2, 0).numpy(),
                cmap='inferno' if images is error else 'gray',
                vmin=0,
                vmax=1,
                interpolation='nearest',
                aspect='auto',
            )
            if i == 0:
                axes.set_title(title, fontsize=8)
        name = _shorten(str(names[i])) + '\n\n' if names else ''
        label = f'{name}{r.psnr[i]:.1f} dB\nbaseline {r.baseline[i]:.1f} dB\n{r.psnr[i] - r.baseline[i]:+.1f} dB'
        middle = (y + cell_height / 2) / total_height
        figure.text((left - 0.1) / total_width, middle, label, ha='right', va='center', fontsize=8)
    figure.text(left / total_width, (bottom - 0.1) / total_height, caption, ha='left', va='top', fontsize=7)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished)


def _shorten(name: str, length: int = 20) -> str:
    return name if len(name) <= length else f'{name[: length - 1]}…'
