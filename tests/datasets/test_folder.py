import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from noise import write_shade
from torch.utils.data import DataLoader

from coma_mm.datasets import ImageFolder, LoadImage, UnreadableImageError


def names(dataset):
    return [Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))]


@pytest.fixture
def log(tmp_path):
    """The file that the current logger writes to, as in a run."""
    logger = MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / 'log.txt'))
    return Path(logger.log_file)


@pytest.fixture
def partly_bad(tmp_path):
    """Returns a folder of images of which the first few cannot be read."""

    def make(num_images, num_bad):
        for i in range(num_images):
            path = tmp_path / 'images' / f'{i:03}.png'
            write_shade(path, i)
            if i < num_bad:
                path.write_bytes(path.read_bytes()[:40] if i % 2 else b'')
        return tmp_path / 'images'

    return make


def dataset_of(folder, **kwargs):
    return ImageFolder(str(folder), pipeline=[LoadImage()], **kwargs)


def load(dataset, num_workers):
    """Return the images of an epoch, in order."""
    images = iter(DataLoader(dataset, batch_size=None, num_workers=num_workers))
    try:
        return [results['img'] for results in images]
    finally:
        if num_workers:
            images._shutdown_workers()  # after an error the garbage collector would do it, and wait 5 s for each


def test_finds_images_in_all_sub_folders(tmp_path):
    wanted = ['1.jpg', '2.JPEG', '3.png', '4.WebP', '5.bmp', '6.tif', '7.TIFF']
    folders = ['.', 'a', 'b', 'b/c', 'b/c/d', 'e.jpg', '2']
    for folder, name in zip(folders, wanted, strict=True):
        write_shade(tmp_path / folder / name)
    for name in ['readme.txt', 'jpg', 'x.jpg.part', '.hidden.jpg', '.cache/8.jpg', 'b/.trash/9.jpg']:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    dataset = dataset_of(tmp_path)
    assert sorted(names(dataset)) == wanted
    assert names(dataset_of(tmp_path)) == names(dataset)
    for idx in range(len(dataset)):
        assert dataset[idx]['img'].shape == (6, 8, 3)
        assert dataset[idx]['sample_idx'] == idx


def test_links_are_followed_once(tmp_path):
    write_shade(tmp_path / 'root/a/1.png')
    write_shade(tmp_path / 'elsewhere/2.png')
    (tmp_path / 'root/a/up').symlink_to(tmp_path / 'root')
    (tmp_path / 'root/b').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root/c').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root/3.png').symlink_to(tmp_path / 'elsewhere/2.png')
    (tmp_path / 'root/nowhere').symlink_to(tmp_path / 'nowhere')
    assert sorted(names(dataset_of(tmp_path / 'root'))) == ['1.png', '2.png', '3.png']


def test_by_config_with_sub_folder_indices_and_home(tmp_path, monkeypatch):
    for i in range(4):
        write_shade(tmp_path / f'data/train/class/{i}.png')
    write_shade(tmp_path / 'data/val/9.png')
    monkeypatch.setenv('HOME', str(tmp_path))
    cfg = dict(type='coma_mm.ImageFolder', data_root='~/data', data_prefix='train', indices=3, pipeline=[])
    dataset = DATASETS.build(cfg)
    assert isinstance(dataset, ImageFolder)
    assert names(dataset) == ['0.png', '1.png', '2.png']


def test_own_extensions(tmp_path):
    write_shade(tmp_path / '1.png')
    write_shade(tmp_path / '2.ppm')
    assert names(dataset_of(tmp_path, extensions=['.PPM'])) == ['2.ppm']


def test_missing_folder_says_where_it_looked_and_how_to_set_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f'no folder {tmp_path}/data: .* --cfg-options train_dataloader.dataset.data_root=FOLDER'
    with pytest.raises(FileNotFoundError, match=message + '$'):
        ImageFolder('data')
    message = message.replace('data:', 'data/train:') + ' train_dataloader.dataset.data_prefix=SUBFOLDER'
    with pytest.raises(FileNotFoundError, match=message):
        ImageFolder('data', 'train')
    with pytest.raises(FileNotFoundError, match='no folder of images is given: .* --cfg-options'):
        ImageFolder('')


def test_empty_folder_says_what_it_looked_for(tmp_path):
    (tmp_path / 'notes.txt').touch()
    message = f'no images in {tmp_path} .*looked for all kinds that Pillow opens; left out: 1 .txt.: .* --cfg-options'
    with pytest.raises(FileNotFoundError, match=message):
        dataset_of(tmp_path)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_up_to_five_percent_are_replaced_and_named_once(partly_bad, log, num_workers):
    dataset = dataset_of(partly_bad(40, num_bad=2))
    for _ in range(3):  # each epoch starts new workers
        images = load(dataset, num_workers)
        assert len(images) == 40
        assert all(img[0, 0, 0] >= 2 for img in images)
        assert [img[0, 0, 0] for img in images[2:]] == list(range(2, 40))
        assert dataset.num_unreadable == 2
    lines = [line for line in log.read_text().splitlines() if 'skipped unreadable image' in line]
    assert len(lines) == 2
    assert sum('000.png' in line for line in lines) == sum('001.png' in line for line in lines) == 1


@pytest.mark.parametrize('num_workers', [0, 2])
def test_more_than_five_percent_stop_the_run(partly_bad, num_workers):
    dataset = dataset_of(partly_bad(40, num_bad=3))
    message = r'3 of the \d+ images read so far \(40 in all\) are unreadable, more than 5%: repair or remove them'
    with pytest.raises(ValueError, match=message):
        load(dataset, num_workers)


def test_the_limit_can_be_set(partly_bad):
    dataset = dataset_of(partly_bad(10, num_bad=8), max_unreadable=0.8)
    assert len(load(dataset, num_workers=0)) == 10


def test_a_big_data_set_stops_early(tmp_path):
    for i in range(4100):
        (tmp_path / f'{i}.jpg').touch()
    with pytest.raises(ValueError, match=r'^200 of the 200 images read so far \(4100 in all\) are unreadable'):
        dataset_of(tmp_path)[0]


def test_what_has_not_been_searched_has_no_unreadable_images(tmp_path):
    assert ImageFolder(str(tmp_path), lazy_init=True).num_unreadable == 0


def test_in_test_mode_nothing_is_replaced(partly_bad):
    with pytest.raises(UnreadableImageError, match='000.png'):
        dataset_of(partly_bad(40, num_bad=1), test_mode=True)[0]


def test_other_errors_of_the_pipeline_are_not_swallowed(partly_bad):
    def fail(results):
        raise OSError('disk on fire')

    with pytest.raises(OSError, match='disk on fire'):
        ImageFolder(str(partly_bad(2, num_bad=0)), pipeline=[fail])[0]


def test_memory_is_shared_by_the_workers(partly_bad):
    dataset = dataset_of(partly_bad(4, num_bad=0))
    load(dataset, num_workers=2)
    assert np.array_equal(dataset.state, [1, 1, 1, 1])


@pytest.mark.parametrize('added', ['a/40.png', 'b/0.png', '0.png', 'c/d/0.png'])
def test_held_out_images_stay_when_others_are_added(tmp_path, added):
    for number in range(40):
        write_shade(tmp_path / 'photos' / 'a' / f'{number}.png')
    root = str(tmp_path / 'photos')
    before = names(ImageFolder(root, part='val', val=0.1))
    write_shade(tmp_path / 'photos' / added)
    assert len({*before} - {*names(ImageFolder(root, part='val', val=0.1))}) <= 1
    (tmp_path / 'photos' / added).unlink()
    (tmp_path / 'photos').rename(tmp_path / 'moved')
    assert names(ImageFolder(str(tmp_path / 'moved'), part='val', val=0.1)) == before
    held_out = []
    for place in ('moved', 'elsewhere'):
        (tmp_path / 'moved').rename(tmp_path / place)
        (tmp_path / 'lists').mkdir(exist_ok=True)
        (tmp_path / 'lists' / 'all.txt').write_text('\n'.join(map(str, sorted((tmp_path / place).rglob('*.png')))))
        held_out.append(names(ImageFolder(str(tmp_path / 'lists' / 'all.txt'), part='val', val=0.1)))
    assert held_out[0] == held_out[1]


@pytest.mark.parametrize('serialize_data', [True, False])
@pytest.mark.parametrize('indices', [None, 3, [4, 0]])
def test_paths_are_items_of_mmengine(tmp_path, serialize_data, indices):
    paths = [str(tmp_path / f'{number}.png') for number in range(5)]
    for path in paths:
        write_shade(Path(path))
    dataset = ImageFolder(str(tmp_path), serialize_data=serialize_data, indices=indices)
    expected = [paths[i] for i in (range(5) if indices is None else range(3) if indices == 3 else indices)]
    items = [dict(img_path=path, sample_idx=i) for i, path in enumerate(expected)]
    copies = copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset)), dataset.get_subset([*range(len(expected))])
    for one in dataset, *copies:
        assert [one.get_data_info(i) for i in range(len(one))] == items
