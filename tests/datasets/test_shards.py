import os
import pickle

import pytest
from mmengine.registry import DATASETS
from tars import picture, shades, write_tar
from torch.utils.data import DataLoader

from coma_mm.datasets import ImageShards, LoadImage, LoadRandomResizedCrop
from coma_mm.datasets.shards import index_shard


@pytest.fixture
def folder(tmp_path):
    """Two shards as others write them: labels beside the images, long names, folders, what a Mac adds."""
    first = ('a/1.jpg', picture(1, 'JPEG')), ('a/1.cls', b'7'), ('a/2.PNG', picture(2))
    write_tar(tmp_path / 'train-000000.tar', *first, ('a/._2.PNG', b'mac'), ('a/2.json', b''))
    second = ('long/' * 60 + '3.webp', picture(3, 'WEBP')), ('4.png', picture(4))
    write_tar(tmp_path / 'more' / 'train-000001.tar', *second)
    return tmp_path


def test_images_only_in_a_fixed_order(folder):
    dataset = DATASETS.build(dict(type='coma_mm.ImageShards', data_root=str(folder), pipeline=[LoadImage()]))
    assert isinstance(dataset, ImageShards)
    values = shades(dataset)
    assert values == [1, 2, 3, 4]
    results = dataset[1]
    assert results['img_path'] == f'tar://{folder}/train-000000.tar/a/2.PNG'
    assert 'img_bytes' not in results and results['sample_idx'] == 1
    assert dataset.get_data_info(1)['img_bytes'] == picture(2)
    assert shades(pickle.loads(pickle.dumps(dataset))) == values
    crops = ImageShards(str(folder), pipeline=[LoadRandomResizedCrop(4)])
    assert shades(crops) == values
    assert len(ImageShards(str(folder), data_prefix='more')) == 2
    assert len(ImageShards(str(folder), extensions=['.png'])) == 2


def test_in_workers(folder):
    dataset = ImageShards(str(folder), pipeline=[LoadImage()])
    dataset[0]  # opens the file in this process as well
    images = DataLoader(dataset, batch_size=None, num_workers=2)
    assert [round(results['img'].float().mean().item() / 20) for results in images] == [1, 2, 3, 4]


def test_index_is_kept_and_renewed(folder):
    shard, index = folder / 'train-000000.tar', folder / 'train-000000.tar.index.json'
    places = index_shard(shard)
    assert len(places) == 5 and index.exists()
    written = index.stat().st_mtime_ns
    assert [tuple(place) for place in index_shard(shard)] == places and index.stat().st_mtime_ns == written

    dataset = ImageShards(str(folder), pipeline=[LoadImage()])
    before = shades(dataset)
    new = folder / 'new'
    write_tar(new, ('5.png', picture(5)), ('6.png', picture(6)))
    new.replace(shard)
    assert shades(dataset) == before, 'a run keeps what it has opened'
    assert set(shades(ImageShards(str(folder), pipeline=[LoadImage()]))) == {3, 4, 5, 6}

    index.write_text('{"half": ')
    assert len(index_shard(shard)) == 2
    write_tar(shard, ('7.png', picture(7)), ('8.png', picture(8)))  # as long as before
    os.utime(shard, ns=(0, 0))
    assert [name for name, _, _ in index_shard(shard)] == ['7.png', '8.png']
    assert not list(folder.glob('.*'))


@pytest.mark.parametrize('content', ['{"my": "own index"}', '[[1, 2], 3]', ''])
def test_a_file_of_another_kind_with_an_index_name_stays(folder, content):
    shard, index = folder / 'train-000000.tar', folder / 'train-000000.tar.index.json'
    others = folder / 'others.json'
    others.write_text(content)
    for make in (lambda: index.write_text(content), lambda: index.symlink_to(others), lambda: os.link(others, index)):
        index.unlink(missing_ok=True)
        make()
        before = os.lstat(index)
        assert len(index_shard(shard)) == 5
        assert index.read_text() == content and os.lstat(index).st_ino == before.st_ino


def test_without_the_right_to_write(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError('read-only file system')

    monkeypatch.setattr('pathlib.Path.write_text', refuse)
    assert len(ImageShards(str(folder))) == 4
    assert not list(folder.rglob('*.json'))


def test_unreadable_images_are_replaced_or_stop_the_run(folder):
    write_tar(folder / 'x.tar', ('broken.jpg', picture(9, 'JPEG')[:200]))
    dataset = ImageShards(str(folder), pipeline=[LoadRandomResizedCrop(4)], max_unreadable=0.2)
    assert [dataset[i]['img'].shape for i in range(5)] == [(4, 4, 3)] * 5
    assert dataset.num_unreadable == 1
    with pytest.raises(ValueError, match=r'1 of the 1 images .* are unreadable.*tar:///.*/x.tar/broken.jpg'):
        ImageShards(str(folder), pipeline=[LoadImage()])[2]


def test_shards_are_not_divided(folder):
    with pytest.raises(ValueError, match="part='train' goes with folders of images: put shards of each part into"):
        ImageShards(str(folder), part='train')


def test_shards_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder .* put the shards there, or name yours with --cfg-options'):
        ImageShards(str(tmp_path / 'nowhere'))
    with pytest.raises(FileNotFoundError, match=r'no shards in .*looked for .tar .tar.gz .tgz'):
        ImageShards(str(tmp_path))
    write_tar(tmp_path / 'labels' / 'a.tar', ('1.cls', b'7'))
    with pytest.raises(FileNotFoundError, match='no images in the 1 shards of .*members of all kinds that Pillow'):
        ImageShards(str(tmp_path), 'labels')
    write_tar(tmp_path / 'gz' / 'a.tar.gz', ('1.png', picture(1)), mode='w:gz')  # others: tests/hostile/test_tars.py
    with pytest.raises(ValueError, match=r'gz/a.tar.gz is no whole, uncompressed tar file'):
        ImageShards(str(tmp_path), 'gz')
