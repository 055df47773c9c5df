"""A folder of images and one of masks, read and checked before a segmentor is configured for them."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.reading import open_regular, read_text
from ..utils.text import counted, one_line
from .finding import find_images, hold_out, image_endings
from .image_headers import FORMATS
from .loading import MAX_PIXELS, image_size, pillow_limit

IMAGES = 'images', 'image', 'img', 'imgs'
MASKS = 'masks', 'labels', 'annotations', 'mask', 'label'
PARTS = dict(train=('train', 'training'), val=('val', 'validation', 'valid'))
IGNORED = 255
UNLISTED = re.compile('[\n\r\ud800-\udfff]')  # in names of files
READ = 1000  # masks of a part whose values are looked at, at equal distances


@dataclass
class MaskFolder:
    """Images with masks, in the parts ``train`` and ``val``, or in one, ``all``."""

    root: Path
    pairs: dict[str, tuple[str, str]]  # by part: the folders of images and of masks, below the root
    stems: dict[str, list[str]]  # by part: the names of images without their ending
    endings: tuple[str, str]  # of images, and of their masks
    classes: list[str]

    def split(self, fraction: float) -> tuple[list[str], list[str]]:
        """Return the names of images in two parts, a share held out in the second, always the same ones."""
        stems = self.stems['all']
        if odd := next((stem for stem in stems if stem != stem.strip() or UNLISTED.search(stem)), None):
            raise ValueError(
                f'{self.root} has the image {one_line(repr(odd))}, which no line of a list can name (it has a space at '
                'an end, a line break, or bytes that are not UTF-8): rename it and its mask'
            )
        held_out = hold_out([os.fsencode(stem) for stem in stems], fraction)
        train, val = ([one for i, one in enumerate(stems) if (i in held_out) == out] for out in (False, True))
        return train, val


def read_masks(root: str | os.PathLike, classes: Sequence[str] | None = None) -> MaskFolder:
    """Find images and masks below a folder, and look at the masks.

    Args:
        root: Has ``images`` and ``masks`` (or ``labels``, ``annotations``), with ``train`` and ``val`` in both or not.
        classes: Names; those in ``classes.txt`` of the folder, or numbers, if ``None``.
    """
    root = Path(os.path.abspath(root))
    images, masks = (_find(root, names) for names in (IMAGES, MASKS))
    parts: dict[str, tuple[str, str]] = {}
    for part, names in PARTS.items():
        found = [[place / name for name in names if (place / name).is_dir()] for place in (images, masks)]
        if all(found):
            parts[part] = tuple(str(places[0].relative_to(root)) for places in found)  # type: ignore[assignment]
    if len(parts) == 1:
        raise FileNotFoundError(
            f'{root} has the part {next(iter(parts))} alone: add the other, or put all in one folder'
        )
    if not parts and min(len(os.listdir(place)) for place in (images, masks)) < 2:
        raise FileNotFoundError(f'{root} has one image, so none can be held out: add some')
    if not parts:
        parts = dict(all=(images.name, masks.name))
    stems, endings = {}, None
    for part, (image_folder, mask_folder) in parts.items():
        stems[part], endings = _pair(root / image_folder, root / mask_folder, endings)
    assert endings is not None
    if classes is None and (root / 'classes.txt').is_file():
        text = read_text(root / 'classes.txt')
        if '\0' in text or '\ufffd' in text:
            raise ValueError(f'{root}/classes.txt is no text in UTF-8: save it as that')
        classes = [line.strip() for line in text.splitlines() if line.strip()]
    values: dict[int, Path] = {}
    for part, (image_folder, mask_folder) in parts.items():
        chosen = stems[part][:: -(-len(stems[part]) // READ)]
        for stem in chosen:
            image, mask = root / image_folder / (stem + endings[0]), root / mask_folder / (stem + endings[1])
            values |= dict.fromkeys(_read_values(image, mask, classes), mask)
    return MaskFolder(root, parts, stems, endings, _name_classes(root, values, classes))


def _find(root: Path, names: Sequence[str]) -> Path:
    place = next((root / name for name in names if (root / name).is_dir()), None)
    if place is None:
        raise FileNotFoundError(f'{root} has no folder {names[0]} (nor {", ".join(names[1:])})')
    return place


def _pair(images: Path, masks: Path, endings: tuple[str, str] | None) -> tuple[list[str], tuple[str, str]]:
    """Return the names of images without their ending, and the endings of images and masks."""
    names, mask_names = (
        sorted(name for name in os.listdir(place) if name.lower().endswith(image_endings()) and name[0] != '.')
        for place in (images, masks)
    )
    if not names or not mask_names:
        raise FileNotFoundError(f'no images in {images if not names else masks}')
    if inner := [path for path in find_images(str(images)) if os.path.dirname(path) != str(images)]:
        raise ValueError(f'{images} has images in sub-folders, such as {inner[0]}: put all beside each other, or none')
    if endings is None:
        ending = Counter(os.path.splitext(name)[1] for name in names).most_common(1)[0][0]
        first = next(name for name in names if name.endswith(ending)).removesuffix(ending)
        ends = [name.removeprefix(first) for name in mask_names if name.startswith(first)]
        if not (ends := [end for end in ends if not end[:1].isalnum()]):
            raise ValueError(f'{images / first}{ending} has no mask of its name in {masks}')
        endings = ending, min(ends, key=len)  # longer ones are of a_1 beside a
    others = [name for name in names if not name.endswith(endings[0])]
    if others:
        raise ValueError(f'{images} has images of two endings, {endings[0]} and that of {others[0]}: mmseg reads one')
    stems = [name.removesuffix(endings[0]) for name in names]
    known = {*mask_names}
    if missing := [stem for stem in stems if stem + endings[1] not in known]:
        raise ValueError(
            f'{masks} lacks masks of {counted(len(missing), "image")} of {images}, such as {missing[0]}{endings[1]}'
        )
    return stems, endings


def _read_values(image: Path, mask: Path, classes: Sequence[str] | None) -> list[int]:
    """Return the classes in a mask."""
    try:
        with open_regular(mask) as file, pillow_limit(MAX_PIXELS), Image.open(file) as opened:
            if opened.format not in FORMATS:
                raise ValueError(f'{opened.format} is not read')
            if opened.format == 'JPEG':
                raise ValueError('JPEG changes numbers of classes; make it anew as PNG')
            mode, pixels = opened.mode, np.asarray(opened)
    except Exception as error:  # Pillow raises what it stumbles over
        raise ValueError(f'the mask {mask} cannot be read: {error}') from None
    if pixels.ndim != 2:
        raise ValueError(f'the mask {mask} has colours ({mode}): a mask has one channel of numbers of classes')
    if (size := image_size(image)) != pixels.shape:
        raise ValueError(
            f'the mask {mask} has {pixels.shape[1]} x {pixels.shape[0]} pixels, its image {size[1]} x {size[0]}'
        )
    values = [int(value) for value in np.unique(pixels) if value != IGNORED]
    if pixels.dtype == bool:
        raise ValueError(f'the mask {mask} has 1 bit a pixel, and mmseg reads 8: save it as 0 and 1 of 8 bits')
    most = IGNORED if classes is None else len(classes)
    if wrong := [value for value in values if not 0 <= value < most]:
        known = f'there are {most} classes, 0 to {most - 1}' if classes else '0 to 254 are classes'
        raise ValueError(f'the mask {mask} has the value {wrong[0]}, but {known}, and 255 is no class')
    return values


def _name_classes(root: Path, found: dict[int, Path], classes: Sequence[str] | None) -> list[str]:
    named = list(classes or (f'class {number}' for number in range(max(found, default=0) + 1)))
    if len(found) < 2 or len(named) < 2:
        raise ValueError(
            f'the values of masks in {root} are {sorted(found)} and perhaps 255, which is no class: '
            'two classes are needed, such as 0 and 1'
        )
    return named
