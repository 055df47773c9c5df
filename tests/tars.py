"""Shards of small images, each of which is known by its shade."""

import io
import tarfile

from PIL import Image

from coma_mm.datasets import ImageShards, LoadImage


def picture(value, kind='PNG'):
    """Return the bytes of an image of a shade, 1 to 12."""
    buffer = io.BytesIO()
    Image.new('RGB', (8, 6), (20 * value,) * 3).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path, *members, mode='w', **options):
    """Write members, each a name and content or fields of the header; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            fields = dict(size=len(content)) if isinstance(content, bytes) else content
            for key, value in fields.items():
                setattr(header, key, value)
            tar.addfile(header, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def shades(dataset):
    """Return the shades of all images of a data set, or of those in a folder's shards."""
    if not isinstance(dataset, ImageShards):
        dataset = ImageShards(str(dataset), pipeline=[LoadImage()])
    return [round(dataset[i]['img'].mean() / 20) for i in range(len(dataset))]
