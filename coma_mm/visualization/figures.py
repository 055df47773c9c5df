"""What our pictures have in common: a grid of images that matplotlib lays out, as a file and as an array.

Figures and canvases are made by hand: pyplot would keep global state and choose a backend for the whole process.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..files import whole_file

DPI = 110


def image_grid(
    columns: dict[str, Tensor],
    labels: Sequence[str] = (),
    caption: str = '',
    colours: dict[str, str] | None = None,
    height: float = 1.7,
) -> Figure:
    """Lay out images, a column for each kind and a row for each image.

    Args:
        columns: By their titles: ``(rows, 3 or 1, H, W)`` in [0, 1].
        labels: One for each row, or none.
        caption: Stands below.
        colours: By column, the colour map of its images of one channel. Grey if there is none.
        height: Of a square image, in inches; others have the same area.
    """
    rows = len(next(iter(columns.values())))
    ratio = next(iter(columns.values())).shape[-2] / next(iter(columns.values())).shape[-1]
    cell = height * ratio**-0.5, height * ratio**0.5
    room = 1.5 if labels else 0.2
    figure = Figure(
        figsize=(room + len(columns) * (cell[0] + 0.06), 0.55 + 0.16 * caption.count('\n') + rows * (cell[1] + 0.06)),
        dpi=DPI,
        layout='compressed',
    )
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for i, row in enumerate(figure.subplots(rows, len(columns), squeeze=False)):
        for axes, (title, images) in zip(row, columns.items()):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            colour = (colours or {}).get(title, 'gray')
            # Nearest: small inputs stay the pixels they are.
            pixels = images[i].permute(1, 2, 0).numpy()
            axes.imshow(pixels, cmap=colour, vmin=0, vmax=1, interpolation='nearest')
            if i == 0:
                axes.set_title(title, fontsize=8)
        if labels:
            row[0].set_ylabel(labels[i], rotation=0, ha='right', va='center', fontsize=8)
    if caption:
        figure.supxlabel(caption, fontsize=7)
    return figure


def finish(figure: Figure, path: str | os.PathLike | None = None) -> np.ndarray:
    """Lay a figure out, once, and write it, if it is to be a file, as a whole or not at all.

    Args:
        figure: What to draw.
        path: Any file type that matplotlib's Agg can write, by its suffix; ``None`` writes nothing.

    Returns:
        ``(H, W, 3)``, uint8, RGB, as loggers take it.
    """
    figure.canvas.draw()
    figure.set_layout_engine('none')  # all is in its place
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            figure.savefig(unfinished)
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def shorten(name: str, length: int = 20) -> str:
    """Return a name that has room beside an image."""
    return name if len(name) <= length else f'{name[: length - 1]}…'
