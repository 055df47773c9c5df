"""A second walk lists no folder that has not changed, and finds what a first one would."""

import json
import os
import shutil

import pytest
from noise import write_shade

import coma_mm
from coma_mm.datasets import listings
from coma_mm.datasets.finding import find_images
from coma_mm.utils import manifest

CHANGES = dict(
    added=lambda data: (data / 'b/3.png').touch(),
    removed=lambda data: (data / 'b/2.png').unlink(),
    renamed=lambda data: (data / 'b/2.png').rename(data / 'b/2.txt'),
    moved=lambda data: (data / 'b/2.png').rename(data / 'a/2.png'),
    folder_added=lambda data: shutil.copytree(data / 'b', data / 'c'),
    folder_removed=lambda data: shutil.rmtree(data / 'b'),
    folder_replaced=lambda data: (shutil.rmtree(data / 'a'), (data / 'a').mkdir()),
    inner_folder_added=lambda data: shutil.copytree(data / 'a', data / 'b/a'),
    link_elsewhere=lambda data: ((data / 'link').unlink(), (data / 'link').symlink_to(data.parent / 'others')),
    run=lambda data: manifest.write_own(data / 'b', 'log', 'log', ''),
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, 'SETTLED', -(10**10))  # as if all that follows came long after the folders
    monkeypatch.setattr(listings, '_known', {})
    for name in ('data/a/1.png', 'data/b/1.png', 'data/b/2.png', 'data/b/x.txt', 'elsewhere/5.png', 'others/6.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'data/link').symlink_to(tmp_path / 'elsewhere')
    for folder in (tmp_path / 'data').rglob('*/'):
        os.utime(folder, (1, 1))  # a change within the same tick of the clock is one, too
    os.utime(tmp_path / 'data', (1, 1))
    return tmp_path / 'data'


@pytest.fixture
def listed(monkeypatch):
    """Folders that are listed from now on."""
    found, scandir = [], os.scandir
    monkeypatch.setattr(os, 'scandir', lambda path='.': found.append(str(path)) or scandir(path))
    return found


@pytest.mark.parametrize('change', CHANGES)
def test_what_changes_is_listed_again(data, listed, change):
    before = find_images(str(data))
    listed.clear()
    assert find_images(str(data)) == before and not listed
    CHANGES[change](data)
    listed.clear()
    now = find_images(str(data))
    assert now != before and 0 < len([path for path in listed if path.startswith(str(data))])
    listings._known.clear()
    assert find_images(str(data)) == now


def test_what_has_just_changed_and_what_is_named_in_the_log_are_listed_again(data, listed, monkeypatch):
    os.mkfifo(data / 'b/pipe.png')
    find_images(str(data))
    listed.clear()
    find_images(str(data))
    assert listed == [str(data / 'b')]
    monkeypatch.setattr(listings, 'SETTLED', 10**12)
    listings._known.clear()
    find_images(str(data))
    listed.clear()
    find_images(str(data))
    assert len(listed) == 4
    monkeypatch.setattr(listings, 'SETTLED', -(10**10))
    os.utime(data, (0, 0))  # as on disks that know no times of folders
    find_images(str(data))
    listed.clear()
    find_images(str(data))
    assert listed == [str(data), str(data / 'b')]


def test_a_run_that_goes_on_lists_no_folder(data, tmp_path, listed, monkeypatch):
    monkeypatch.setattr(listings, 'WORTH', 5)
    for number, path in enumerate([*data.rglob('*.png'), data / 'link/5.png']):
        write_shade(path, number, (40, 40))
    listed.clear()
    options = dict(arch='pico', size=32, batch_size=2, workers=0, steps=2)
    coma_mm.pretrain(data, tmp_path / 'run', **options)
    mine = [path for path in listed if path.startswith(str(data))]
    assert sorted(mine) == sorted(map(str, [data, data / 'a', data / 'b', data / 'link']))  # once each

    entry = manifest.read_manifest(tmp_path / 'run')[listings.LISTINGS]
    assert entry['kind'] == 'listings'
    for name in ('iter_2.pth', 'last.pth', 'backbone.safetensors'):
        (tmp_path / 'run' / name).unlink()
    listings._known.clear()
    listed.clear()
    coma_mm.pretrain(None, tmp_path / 'run', resume=True)
    assert not [path for path in listed if path.startswith(str(data))]


@pytest.mark.parametrize(
    'content',
    [
        *('', '[', '[]', '{}', '{".png": 3}', '{".png": {"DATA": 3}}', '{".png": {"DATA": [[], 1, "", {}]}}'),
        *('{".png": {"DATA": [TIMES, "9.png", "..", {}]}}', '{".png": {"DATA": [TIMES, "9.png", "", {".a": "b"}]}}'),
    ],
)
def test_a_file_of_another_content_is_left_alone(data, content):
    listings._known['.png'] = {}
    content = content.replace('DATA', str(data)).replace('TIMES', json.dumps(listings.folder_times(data)))
    manifest.write_own(data.parent, listings.LISTINGS, 'listings', content)
    listings.load_listings(data.parent)
    assert find_images(str(data), ['.png']) == [
        str(data / name) for name in ('a/1.png', 'b/1.png', 'b/2.png', 'link/5.png')
    ]


def test_a_file_that_the_run_has_not_written_is_left_alone(data):
    text = json.dumps({'.png': {str(data): [listings.folder_times(data), '9.png', '', {}]}})
    (data.parent / listings.LISTINGS).write_text(text)
    listings.load_listings(data.parent)
    assert not listings._known
