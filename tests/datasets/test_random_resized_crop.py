"""``LoadRandomResizedCrop`` beside mmpretrain's RandomResizedCrop with Pillow, which it stands in for."""

import io

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from coma_mm.datasets import LoadImage, LoadRandomResizedCrop, Photos
from coma_mm.datasets import random_resized_crop as module

PHOTOS = {name: Photos(names=[name])[0]['img'] for name in ('astronaut', 'coffee', 'rocket')}


def save(path, img, **options):
    Image.fromarray(img).save(path, quality=92, **options)
    return str(path)


def crop(path, seed=0, **settings):
    np.random.seed(seed)
    return LoadRandomResizedCrop(**dict(scale=64) | settings)(dict(img_path=str(path)))


def stock_crop(path, seed=0, **settings):
    """The same by LoadImage and mmpretrain's transform."""
    settings = dict(scale=64, crop_ratio_range=(0.2, 1.0), backend='pillow', interpolation='bicubic') | settings
    transform = TRANSFORMS.build(dict(type='mmpretrain.RandomResizedCrop', **settings))
    np.random.seed(seed)
    return transform(LoadImage()(dict(img_path=str(path))))


def difference(one, other):
    return np.abs(one['img'].astype(int) - other['img']).mean()


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(scale=(32, 48), crop_ratio_range=(0.5, 0.6)),
        dict(aspect_ratio_range=(1, 1), max_attempts=1),
        dict(max_attempts=0),  # the centre
    ],
)
def test_same_boxes(tmp_path, monkeypatch, settings):
    path = save(tmp_path / 'x.jpg', PHOTOS['rocket'])
    monkeypatch.setattr(module, 'MARGIN', float('inf'))  # nothing is reduced before it is cropped
    for seed in range(5):
        ours, stock = crop(path, seed, **settings), stock_crop(path, seed, **settings)
        assert difference(ours, stock) < 0.05
        after = np.random.rand()
        stock_crop(path, seed, **settings)
        assert np.random.rand() == after, 'the generator went another way'


@pytest.mark.parametrize('name', PHOTOS)
def test_whole_size_equals_pillow(tmp_path, name):
    """Scales down in one direction or both, and up."""
    path = save(tmp_path / 'x.jpg', PHOTOS[name])
    for scale in (max(PHOTOS[name].shape) // 2, (700, 300), 1500):
        ours, stock = crop(path, scale=scale), stock_crop(path, scale=scale)
        assert ours['img'].dtype == np.uint8 and ours['img'].shape[:2] == stock['img'].shape[:2]
        assert difference(ours, stock) < 0.05
        assert np.abs(ours['img'].astype(int) - stock['img']).max() <= 2


@pytest.mark.parametrize(('scale', 'factor'), [(100, 2), (50, 4), (24, 8)])
def test_reduced_decoding_is_near_pillow(tmp_path, monkeypatch, scale, factor):
    factors, decode = [], module.simplejpeg.decode_jpeg

    def spy(*args, **kwargs):
        factors.append(kwargs['min_factor'])
        return decode(*args, **kwargs)

    monkeypatch.setattr(module.simplejpeg, 'decode_jpeg', spy)
    path = save(tmp_path / 'x.jpg', PHOTOS['astronaut'])
    settings = dict(scale=scale, crop_ratio_range=(0.4, 1.0))
    differences = [difference(crop(path, seed, **settings), stock_crop(path, seed, **settings)) for seed in range(10)]
    assert factor in factors and set(factors) <= {factor, factor // 2}
    assert np.mean([value for value, used in zip(differences, factors, strict=True) if used == factor]) < 2


def test_shapes(tmp_path):
    path = save(tmp_path / 'x.jpg', PHOTOS['astronaut'])
    results = crop(path, scale=(32, 48))
    assert results['img'].shape == (32, 48, 3)
    assert results['img_shape'] == (32, 48) and results['ori_shape'] == PHOTOS['astronaut'].shape[:2]
    assert results['img_path'] == path


def formats(folder):
    photo = PHOTOS['coffee']
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        yield save(folder / f'exif{orientation}.jpg', photo, exif=exif)
    yield save(folder / 'broken_exif.jpg', photo, exif=b'Exif\x00\x00garbage')
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="3"/></x:xmpmeta>'
    yield save(folder / 'xmp.jpg', photo, xmp=xmp)
    yield save(folder / 'grey.jpg', photo[..., 0])
    yield save(folder / 'progressive.jpg', photo, progressive=True)
    yield save(folder / 'rgb.jpg', photo, keep_rgb=True)
    yield save(folder / 'png.png', photo)
    Image.fromarray(photo).convert('CMYK').save(folder / 'cmyk.jpg')
    yield str(folder / 'cmyk.jpg')
    Image.fromarray(photo).convert('RGBA').save(folder / 'named.jpg', 'PNG')
    yield str(folder / 'named.jpg')


def test_all_formats_are_seen_as_they_are_meant_to_be(tmp_path):
    for path in formats(tmp_path):
        ours, stock = crop(path, scale=224), stock_crop(path, scale=224)
        assert ours['ori_shape'] == LoadImage()(dict(img_path=path))['ori_shape'], path
        assert difference(ours, stock) < 0.05, path


def test_faults_that_pillow_puts_up_with(tmp_path):
    """Bytes between segments: libjpeg warns, which is an error to simplejpeg."""
    buffer = io.BytesIO()
    Image.fromarray(PHOTOS['coffee']).save(buffer, 'JPEG')
    tables = buffer.getvalue().index(b'\xff\xc4')
    (tmp_path / 'x.jpg').write_bytes(buffer.getvalue()[:tables] + b'\x01\x02' + buffer.getvalue()[tables:])
    with pytest.raises(ValueError):
        module.simplejpeg.decode_jpeg((tmp_path / 'x.jpg').read_bytes())
    assert difference(crop(tmp_path / 'x.jpg', scale=224), stock_crop(tmp_path / 'x.jpg', scale=224)) < 0.05
