"""Grids of images, as a file and as an array.

Figures and canvases are made by hand: pyplot would keep global state and choose a backend for the whole process.
"""

import os
import warnings
from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..utils import manifest
from ..utils.files import MARK
from ..utils.text import one_line

DPI = 110
GAP = 0.06  # between images, in inches
LINE = 0.14  # of text
LETTER = 0.055  # of a caption, on average
MARKS = {'.png': dict(Software=MARK), '.svg': dict(Title=MARK), '.pdf': dict(Creator=MARK)}  # who has written a file


class ImageGrid:
    """Images in a grid, a column for each kind and a row for each image; a picture of them.

    matplotlib gets all images as one: an axes for each would take ten times as long, and a run draws many.

    Args:
        columns: By their titles: ``(rows, 3 or 1, H, W)`` in [0, 1], all of one size.
        caption: Stands below, in lines that are no longer than the picture is wide.
        colours: By column, the colour map of its images of one channel. Grey if there is none.
        height: Height of a square image, in inches; others have the same area.
    """

    def __init__(
        self,
        columns: dict[str, Tensor],
        labels: Sequence[str] = (),
        caption: str = '',
        colours: dict[str, str] | None = None,
        height: float = 1.7,
    ):
        rows, _, self.height, self.width = next(iter(columns.values())).shape
        inch = (self.height * self.width) ** 0.5 / height  # in pixels of the images
        self.gap = max(1, round(GAP * inch))
        canvas = np.ones(
            (rows * (self.height + self.gap) - self.gap, len(columns) * (self.width + self.gap) - self.gap, 3)
        )
        for j, (title, images) in enumerate(columns.items()):
            for i, image in enumerate(images):
                y, x = self.at(i, j, 0, 0)
                pixels = image.permute(1, 2, 0).numpy()
                if pixels.shape[2] == 1:
                    pixels = colormaps[(colours or {}).get(title, 'gray')](pixels[..., 0])[..., :3]
                canvas[y : y + self.height, x : x + self.width] = pixels
        left = 1.55 if any(labels) else 0.1
        above = LINE * (1 + max(title.count('\n') for title in columns)) + 0.1
        across, down = canvas.shape[1] / inch, canvas.shape[0] / inch
        caption = '\n'.join(fill(line, int((left + across) / LETTER)) for line in caption.splitlines())
        below = LINE * (caption.count('\n') + 1) + 0.1 if caption else 0.1
        size = left + across + 0.1, above + down + below
        self.figure = Figure(figsize=size, dpi=DPI)
        self.axes = self.figure.add_axes((left / size[0], below / size[1], across / size[0], down / size[1]))
        self.axes.axis('off')
        # Nearest: small inputs stay the pixels they are.
        self.axes.imshow(canvas.clip(0, 1), interpolation='nearest', aspect='auto')
        for j, title in enumerate(columns):
            y, x = self.at(0, j, 0, 0.5)
            self.axes.text(x, y - 0.05 * inch, title, ha='center', va='bottom', fontsize=8)
        for i, label in enumerate(labels):
            y, x = self.at(i, 0, 0.5, 0)
            self.axes.text(x - 0.08 * inch, y, label, ha='right', va='center', fontsize=8, parse_math=False)
        self.figure.text(0.5, 0.05 / size[1], caption, ha='center', va='bottom', fontsize=7)

    def at(self, row: int, column: int, y: float, x: float) -> tuple:
        """Return where a place in an image, given as shares of its height and width, is in the axes: ``(y, x)``."""
        return row * (self.height + self.gap) + y * self.height, column * (self.width + self.gap) + x * self.width

    def finish(self, path: str | os.PathLike | None = None) -> np.ndarray:
        """Draw the picture, and return it as ``(H, W, 3)``, uint8, RGB, as loggers take it.

        It is written to ``path``, if there is one, as a whole or not at all. Its suffix names the file type.
        """
        return save(self.figure, path)


def save(figure: Figure, path: str | os.PathLike | None) -> np.ndarray:
    """Draw a figure, and write it to a file if one is named; see :meth:`ImageGrid.finish`."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # of names in scripts that the font lacks: boxes will do
        canvas.draw()
        if path is not None:
            with manifest.any_file(path) as unfinished:
                figure.savefig(unfinished, metadata=MARKS.get(unfinished.suffix.lower()))
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def drawn(images: Tensor) -> Tensor:
    """Return the channels ``(B, 3 or 1, H, W)`` that are drawn of images: the first three, or of fewer the first."""
    return images[:, : 3 if images.shape[1] >= 3 else 1]


def shorten(name: str, length: int = 20) -> str:
    """Return a name that has room beside an image, in one line."""
    name = one_line(name)
    return name if len(name) <= length else f'{name[: length - 1]}…'
