"""Images in tar files: a few large files instead of a million small ones."""

import json
import os
import tarfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..files import whole_file
from ..registry import DATASETS
from .folder import ImageFolder
from .loading import UnreadableImageError


@DATASETS.register_module()
class ImageShards(ImageFolder):
    """All images in the uncompressed ``.tar`` files in a folder and its sub-folders, without labels.

    Reads what ``tools/make_shards.py`` and the ``webdataset`` package write, and any other tar file with images in it;
    members that are no images are ignored. Each image can be reached by its number, so samplers, seeds, resuming and
    ``max_unreadable`` are as with :class:`ImageFolder`; it is read by one system call from a file that stays open.

    The places of the images in a shard are kept in ``<shard>.index.json`` beside it if the folder can be written to,
    and found anew, from the headers in the shard, when its size or its time of modification has changed.

    Each item is a dict of ``img_path`` (``tar://<shard>/<member>``) and ``img_bytes``, which
    :class:`LoadRandomResizedCrop` and :class:`LoadImage` take.

    Args:
        data_root (str): The folder.
        data_prefix (str): Sub-folder of ``data_root`` to read. Defaults to '', all of it.
        extensions (Sequence[str]): What the names of images end in. Defaults to those of :class:`ImageFolder`.
        max_unreadable (float): The share of unreadable images that is put up with. Defaults to 0.05.
        **kwargs: ``pipeline``, ``indices``, ``test_mode``, ``lazy_init``... of mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the folder does not exist or has no shards with images in it.
        ValueError: If a shard is compressed, cut short or no tar file.
        ValueError: While reading, if too many images are unreadable.
    """

    def load_data_list(self) -> list[dict]:
        """Return the place of each image, in a fixed order."""
        paths = self.find_files('shards', ('.tar', '.tar.gz', '.tgz'))
        self.shards = [(path, os.stat(path).st_mtime_ns) for path in paths]
        images = [
            dict(shard=number, member=member, offset=offset, size=size)
            for number, shard in enumerate(paths)
            for member, offset, size in index_shard(shard)
            if member.lower().endswith(self.extensions) and not os.path.basename(member).startswith('.')
        ]
        if not images:
            raise FileNotFoundError(
                f'no images in the {len(paths)} shards of {os.path.dirname(paths[0])} '
                f'(looked for members that end in {" ".join(self.extensions)})'
            )
        return images

    def get_data_info(self, idx: int) -> dict:
        """Read an image's bytes."""
        info = super().get_data_info(idx)
        path, modified = self.shards[info.pop('shard')]
        info['img_path'] = f'tar://{path}/{info.pop("member")}'
        offset, size = info.pop('offset'), info.pop('size')
        try:
            info['img_bytes'] = os.pread(_open(path, modified).fileno(), size, offset)
        except OSError as error:
            raise UnreadableImageError(f'{info["img_path"]}: {error}') from error
        return info


def index_shard(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """Return name, offset and size in bytes of each file in a shard, from its index if there is a valid one.

    Raises:
        ValueError: If it is compressed, cut short or no tar file.
    """
    status = os.stat(path)
    stamp = [status.st_size, status.st_mtime_ns]
    index = Path(f'{path}.index.json')
    with suppress(OSError, ValueError, TypeError):
        indexed, files = json.loads(index.read_text())
        if indexed == stamp:
            return files
    try:
        with tarfile.open(path, 'r:') as tar:
            files = [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]
    except tarfile.TarError as error:
        raise ValueError(
            f'{path} is no whole, uncompressed tar file ({error}); compressed ones: unpack them'
        ) from error
    with suppress(OSError), whole_file(index) as unfinished:
        unfinished.write_text(json.dumps([stamp, files]))
    return files


@lru_cache(maxsize=256)  # of each process; below the usual limit of 1024 open files
def _open(path: str, modified: int):
    """Open a shard for reading at any place: ``pread`` moves no position, so workers may inherit the file."""
    return open(path, 'rb', buffering=0)
