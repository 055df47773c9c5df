import re
import tarfile

import pytest
from noise import write_noise
from PIL import Image
from processes import call, refuse, run

from coma_mm.datasets import ImageShards, LoadImage, read_image

NAMES = ['a/1.v2.jpg', 'a/b/2.PNG', 'b/1.v2.jpg', 'b/3 x.webp', 'größe.bmp', '4.jpeg', '5.png', '6.png']
ALONE = '--workers', 0


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        write_noise(tmp_path / 'images' / name, (40 + 4 * i, 60), seed=i)
    (tmp_path / 'images' / 'notes.txt').write_text('no image')
    return tmp_path / 'images'


def members(out):
    """Return name and content of all members, checked to be what WebDataset expects."""
    found = []
    for shard in sorted(out.glob('train-*.tar')):
        with tarfile.open(shard, 'r:') as tar:
            found += [(member.name, tar.extractfile(member).read()) for member in tar]
    keys = [name.split('.')[0] for name, _ in found]
    assert len(set(keys)) == len(keys) and all(name.count('.') == 1 and '/' not in name for name, _ in found)
    return found


def test_round_trip(folder):
    out = folder.parent / 'shards'
    printed = call(folder.parent, 'make_shards.py', 'images', out, '--shard-size', 0.03, '--workers', 2)
    number = int(re.search(r'8 images in (\d+) shards, 0 MiB, in ', printed)[1])
    assert sorted(path.name for path in out.glob('*.tar')) == [f'train-{i:06d}.tar' for i in range(number)]
    assert 1 < number < 8 and len(list(out.glob('*.tar.index.json'))) == number == len(list(out.iterdir())) / 2
    assert {path.name for path in folder.parent.iterdir()} == {'images', 'shards'}

    stored = members(out)
    assert sorted(content for _, content in stored) == sorted(
        path.read_bytes() for path in folder.rglob('*.*') if path.suffix != '.txt'
    )
    flat = 'a_1_v2.jpg a_b_2.png b_1_v2.jpg b_3_x.webp größe.bmp 4.jpeg 5.png 6.png'
    assert {re.sub(r'^\d{8}_', '', name) for name, _ in stored} == {*flat.split()}
    dataset = ImageShards(str(out), pipeline=[LoadImage()])
    assert [dataset.get_data_info(i)['img_bytes'] for i in range(len(dataset))] == [content for _, content in stored]


def test_the_seed_decides_the_order(monkeypatch, folder):
    contents = []
    for name, seed in (('one', 0), ('two', 0), ('three', 1)):
        run(monkeypatch, folder, 'make_shards.py', folder, folder.parent / name, '--seed', seed, *ALONE)
        contents.append((folder.parent / name / 'train-000000.tar').read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_no_shard_is_larger_than_asked(monkeypatch, tmp_path):
    (tmp_path / 'images').mkdir()
    for number in range(60):
        Image.effect_noise((64, 40 + number), 99).save(tmp_path / 'images' / f'{number}_{"long" * 30}.png')
    run(monkeypatch, tmp_path, 'make_shards.py', 'images', 'out', '--shard-size', 0.1, *ALONE)
    sizes = [path.stat().st_size for path in (tmp_path / 'out').glob('*.tar')]
    assert len(sizes) > 2 and max(sizes) <= 0.1 * 2**20


def test_larger_images_are_made_smaller(monkeypatch, capfd, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    small, exif = Image.new('RGB', (50, 200)), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    small.save(folder / 'small.png')
    Image.new('RGBA', (300, 100), (0, 0, 0, 0)).save(folder / 'transparent.png')
    Image.new('RGB', (200, 100)).save(folder / 'turned.jpg', exif=exif)
    (folder / 'broken.jpg').write_bytes(b'no image')
    run(monkeypatch, tmp_path, 'make_shards.py', folder, 'shards', '--short-side', 50, *ALONE)
    printed = capfd.readouterr()
    assert 'left out an unreadable image: ' in printed.err and 'images/broken.jpg: ' in printed.err
    assert '3 images in 1 shard,' in printed.out

    stored = {name.split('_')[1]: content for name, content in members(tmp_path / 'shards')}
    assert stored.keys() == {'small.png', 'transparent.jpg', 'turned.jpg'}
    assert stored['small.png'] == (folder / 'small.png').read_bytes()
    images = {name: read_image(name, content) for name, content in stored.items()}
    assert images['transparent.jpg'].shape == (50, 150, 3) and (images['transparent.jpg'] == 255).all()
    assert images['turned.jpg'].shape == (100, 50, 3)


def test_what_cannot_start(monkeypatch, capfd, folder):
    tmp_path = folder.parent
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / '1.jpg').write_bytes(b'no image')
    for args, error in [
        (('empty', 'out'), 'no images in empty'),
        (('images', 'empty'), 'empty exists already'),
        (('bad', 'out', '--short-side', '64', '--workers', '0'), 'none of the 1 images in bad can be read'),
    ]:
        assert error in refuse(monkeypatch, capfd, tmp_path, 'make_shards.py', *args)
    assert {path.name for path in tmp_path.iterdir()} == {'bad', 'empty', 'images'}
