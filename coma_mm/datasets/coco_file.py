"""A COCO file of boxes, or boxes and masks, read and checked before a detector is configured for it."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.reading import read_text
from ..utils.text import counted, one_line
from .finding import hold_out
from .loading import UnreadableImageError, image_size

MOST = 4_000_000_000  # bytes
PARTS = 'images', 'annotations', 'categories'
OPENED = 64  # images whose size is compared with what the file says, at equal distances


@dataclass
class CocoFile:
    """Content of a COCO file."""

    path: Path
    content: dict[str, Any]  # with lists under images, annotations and categories
    folder: Path  # of its images
    unmasked: int  # number of annotations that are boxes without a mask

    @property
    def classes(self) -> list[str]:
        """Names of the categories."""
        return [category['name'] for category in self.content['categories']]

    def split(self, fraction: float) -> tuple[dict, dict]:
        """Return the content in two parts, a share of the images held out in the second, always the same ones."""
        images = self.content['images']
        if len(images) < 2:
            raise ValueError(f'{self.path} has one image, so none can be held out: name others with --val')
        numbers = hold_out([image['file_name'].encode(errors='surrogatepass') for image in images], fraction)
        held_out = {images[number]['id'] for number in numbers}

        def part(is_held_out: bool) -> dict:
            return self.content | dict(
                images=[one for one in images if (one['id'] in held_out) == is_held_out],
                annotations=[
                    one for one in self.content['annotations'] if (one['image_id'] in held_out) == is_held_out
                ],
            )

        return part(False), part(True)


def read_parts(path: str | os.PathLike) -> dict[str, Any]:
    """Read a COCO file; refuse one without images, annotations or categories."""
    try:
        content = json.loads(read_text(path, MOST))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no COCO file: {str(error) or "it is nested too deeply"}') from None
    for part in PARTS:
        found = content.get(part) if isinstance(content, dict) else None
        if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
            raise ValueError(f'{path} is no COCO file with annotations: it has no {part}')
    return content


def read_coco(path: str | os.PathLike, folder: str | os.PathLike | None = None) -> CocoFile:
    """Read a COCO file, whose images are looked for around it if their folder is not named."""
    path = Path(os.path.abspath(path))
    content = read_parts(path)
    images, categories = content['images'], content['categories']
    names = [category.get('name') for category in categories]
    if not all(isinstance(name, str) and name.strip() for name in names) or len({*names}) < len(names):
        raise ValueError(
            f'{path}: each of its categories needs a name of its own, and they have {one_line(str(names[:5]))}'
        )
    if not all(isinstance(one.get('file_name'), str) for one in images):
        raise ValueError(f'{path}: each image needs a file_name')
    for part in PARTS:
        numbers = [one.get('id') for one in content[part]]
        if not all(type(number) in (int, str) for number in numbers) or len({*numbers}) < len(numbers):
            raise ValueError(f'{path}: each of its {part} needs an id of its own')
    known = dict(image_id={one['id'] for one in images}, category_id={one['id'] for one in categories})
    for one in content['annotations']:
        if wrong := _find_fault(one, known):
            raise ValueError(f'{path}: annotation {one["id"]} {wrong}')
    place = find_folder(path, [one['file_name'] for one in images], folder)
    _check_sizes(path, images, place)
    sizes = {one['id']: [one['height'], one['width']] for one in images}
    for one in content['annotations']:
        if not _is_mask(one.get('segmentation'), sizes[one['image_id']]):
            raise ValueError(
                f'{path}: the segmentation of annotation {one["id"]} is neither polygons of three points or more, nor '
                'size and counts of pixels of its image'
            )
    if not any(_is_learnt(one, *sizes[one['image_id']]) for one in content['annotations']):
        raise ValueError(f'{path} has nothing to learn from: all boxes are empty, outside of their image, or of crowds')
    unmasked = sum(not one.get('segmentation') for one in content['annotations'])
    return CocoFile(path, content, place, unmasked)


def _find_fault(annotation: dict, known: dict[str, set]) -> str | None:
    """Return what is wrong with an annotation, its mask aside."""
    for key, ids in known.items():
        if type(found := annotation.get(key)) not in (int, str) or found not in ids:
            return f'has {key}={found}, an id that nothing there has'
    box = annotation.get('bbox')
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return 'has no bbox of four numbers (x, y, width, height)'
    if not _is_number(annotation.get('area')) or annotation.get('iscrowd') not in (0, 1):
        return 'needs an area in pixels, and iscrowd, which is 0 or 1'
    return None


def _check_sizes(path: Path, images: Sequence[dict], folder: Path) -> None:
    """Refuse images without a size, or of another one than they have as the toolboxes read them: upright."""
    if not all(_is_number(one.get(side)) and one[side] > 0 for one in images for side in ('height', 'width')):
        raise ValueError(f'{path}: each image needs its height and width in pixels')
    for one in images[:: -(-len(images) // OPENED)]:
        with suppress(UnreadableImageError, ImportError):  # mmdet may read it
            if (found := image_size(folder / one['file_name'])) != (one['height'], one['width']):
                raise ValueError(
                    f'{path} says that {one["file_name"]} has {one["width"]} x {one["height"]} pixels, but upright, as '
                    f'it is read, it has {found[1]} x {found[0]}: correct that, and its boxes'
                )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # type: ignore[arg-type]


def _is_mask(mask: Any, size: list) -> bool:
    """Say whether a mask is one that mmdet reads, or none."""
    if isinstance(mask, dict):
        return mask.get('size') == size and isinstance(mask.get('counts'), (list, str))
    if not isinstance(mask, list) or not mask:
        return not mask
    return all(isinstance(part, list) for part in mask) and len(mask[0]) >= 6 and all(map(_is_number, mask[0]))


def _is_learnt(one: dict, height: float, width: float) -> bool:
    """Say whether mmdet trains on an annotation."""
    left, top, wide, high = one['bbox']
    inside = min(left + wide, width) > max(left, 0) and min(top + high, height) > max(top, 0)
    return inside and not one['iscrowd'] and one['area'] > 0 and wide >= 1 and high >= 1


def find_folder(path: Path, names: Sequence[str], folder: str | os.PathLike | None) -> Path:
    """Return the folder of the images of a COCO file."""
    part = path.stem.rpartition('_')[2]
    around = [path.parent, *(path.parent / name for name in ('images', part))]
    around += [path.parents[1], *(path.parents[1] / name for name in (part, 'images', f'images/{part}'))]
    around += sorted(place for place in path.parent.iterdir() if place.is_dir())
    places = around if folder is None else [Path(os.path.abspath(folder))]
    place = next((place for place in places if (place / names[0]).is_file()), None)
    if place is None:
        where = 'near it' if folder is None else f'in {folder}'
        raise FileNotFoundError(
            f'{path} names the image {names[0]}, which is not {where}: name the folder with --images'
        )
    if missing := [name for name in names if not (place / name).is_file()]:
        raise FileNotFoundError(f'{place} lacks {counted(len(missing), "image")} of {path}, such as {missing[0]}')
    return place
