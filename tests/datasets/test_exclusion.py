"""Patterns of images that are left out, and names that look like masks."""

import tarfile

import pytest
from noise import write_shade

from coma_mm.datasets import ClassFolder, ImageFolder, ImageShards
from coma_mm.datasets.exclusion import Exclusion, find_masks

NAMES = ['a.jpg', 'a_mask.png', 'masks/a.png', 'train/masks/x/b.png', 'train/masked.jpg', 'train/[1].png']


@pytest.mark.parametrize(
    ('pattern', 'matched'),
    [
        ('*_mask.png', ['a_mask.png']),
        ('*_MASK.*', ['a_mask.png']),
        ('masks/*', ['masks/a.png', 'train/masks/x/b.png']),
        ('masks', ['masks/a.png', 'train/masks/x/b.png']),
        ('./masks/', ['masks/a.png', 'train/masks/x/b.png']),
        ('**/masks/**', ['masks/a.png', 'train/masks/x/b.png']),
        ('train/*', ['train/masks/x/b.png', 'train/masked.jpg', 'train/[1].png']),
        ('train/masks/*/b.png', ['train/masks/x/b.png']),
        ('[[]1].png', ['train/[1].png']),
        ('?.jpg', ['a.jpg']),
        ('a', []),
        ('rain/*', []),
        ('(', []),
    ],
)
def test_a_pattern_matches_ends_of_paths_and_folders(pattern, matched):
    exclusion = Exclusion([pattern])
    kept = exclusion.keep(NAMES)
    assert [name for name, stays in zip(NAMES, kept) if not stays] == matched
    assert exclusion.total == len(matched) and exclusion.idle == ([] if matched else [pattern])


@pytest.mark.parametrize(
    ('names', 'found'),
    [
        (['1.jpg', '1_mask.png', '2.jpg', '2_mask.png'], (2, ['*_mask.*'])),
        (['images/1.jpg', 'images/2.jpg', 'labels/1.png', 'labels/2.png'], (2, ['labels/*'])),
        (['i/1.jpg', 'i/2.jpg', 'masks/1-seg.png', 'masks/2-seg.png'], (4, ['*-seg.*', 'masks/*'])),
        (['1.jpg', '1_mask.png'], (0, [])),  # one may be chance
        (['1_mask.png', '2_mask.png', '3.jpg'], (0, [])),  # of nothing
        (['cat/1.jpg', 'dog/1.jpg', 'cat/2.jpg', 'dog/2.jpg'], (0, [])),
        (['no ending', '_mask.png', '.png'], (0, [])),
        ([], (0, [])),
    ],
)
def test_masks_are_known_by_their_names(names, found):
    assert find_masks(names) == found


def test_all_data_sets_leave_out_what_matches(tmp_path):
    for name in ('cat/1.png', 'cat/2.png', 'cat/1_mask.png', 'dog/1.png', 'dog/masks/1.png', 'dog/2.png'):
        write_shade(tmp_path / 'data' / name)
    with tarfile.open(tmp_path / 'shard.tar', 'w') as tar:
        tar.add(tmp_path / 'data', 'data')
    (tmp_path / 'data/list.txt').write_text('cat/1.png\ncat/1_mask.png\ndog/masks/1.png\n')
    exclude = ['*_mask.*', 'masks']
    folder = str(tmp_path / 'data')
    assert len(ImageFolder(folder, exclude=exclude)) == 4
    assert len(ImageFolder(f'{folder}/list.txt', exclude=exclude)) == 1
    assert len(ImageFolder([f'{folder}/dog', f'{folder}/dog/masks'], exclude=exclude)) == 2
    assert len(ImageFolder(f'{folder}/dog/masks', exclude=['data', 'dog'])) == 1  # names above the folder do not count
    assert len(ImageShards(str(tmp_path), exclude=exclude)) == 4
    parts = [ClassFolder(folder, part=part, val=0.5, exclude=exclude) for part in ('train', 'val')]
    assert list(map(len, parts)) == [2, 2]
    with pytest.raises(FileNotFoundError, match='no image is left'):
        ImageShards(str(tmp_path), exclude=['*'])
