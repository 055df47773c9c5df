"""``coma-mm config``: weights and annotated images in, a config of a detector or a segmentor out."""

import json
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from tiny_weights import write_weights

from coma_mm.datasets.coco_file import read_coco
from coma_mm.datasets.mask_folder import read_masks
from coma_mm.trial import make_step

SQUARE = [[2, 2, 20, 2, 20, 20, 2, 20]]
BOX = dict(id=0, image_id=0, category_id=7, bbox=[2, 2, 18, 18], area=324, iscrowd=0)


@pytest.fixture
def call(call):
    """Call ``coma-mm config``; return what it printed."""
    return partial(call, 'config')


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_coco(folder, masks=True, **changes):
    """Write five images with a box each, and changes of the annotation file."""
    images = [dict(id=i, file_name=f'{i}.jpg', height=40, width=48) for i in range(5)]
    for image in images:
        save(folder / image['file_name'], np.full((40, 48, 3), 9, np.uint8))
    extra = dict(segmentation=SQUARE) if masks else {}
    boxes = [dict(id=i, image_id=i, category_id=7, bbox=[2, 2, 18, 18], area=324, iscrowd=0, **extra) for i in range(5)]
    content = dict(images=images, annotations=boxes, categories=[dict(id=3, name='nut'), dict(id=7, name='{{x}}')])
    (folder / 'a.json').write_text(json.dumps(content | changes))
    return folder / 'a.json'


@pytest.mark.parametrize('place', ['.', 'photos', 'images', '../images', '../val'])
def test_images_are_found_around_the_coco_file(place, tmp_path):
    path = write_coco(tmp_path).rename(tmp_path / 'instances_val.json')
    folder = tmp_path / 'data/coco'
    (folder / place).mkdir(parents=True)
    path = path.rename(folder / path.name)
    for image in tmp_path.glob('*.jpg'):
        image.rename(folder / place / image.name)
    assert read_coco(path).folder.samefile(folder / place)


@pytest.mark.parametrize(('masks', 'channels'), [(True, 3), (False, 5)])
def test_a_detector_takes_all_from_weights_and_data(masks, channels, call, tmp_path):
    weights = write_weights(tmp_path / 'tiny.pth', in_channels=channels)
    data = write_coco(tmp_path, masks)
    kind = 'Mask R-CNN' if masks else 'Faster R-CNN'
    printed = call('det', weights, '--data', data, '--out', 'det.py', '--size', 64)
    assert f'det.py: {kind}, 2 classes, short side 64 px' in printed and 'next: coma-mm train det.py' in printed
    cfg = Config.fromfile('det.py')
    assert cfg.model.neck.in_channels == [16, 32, 48, 64] and cfg.model.backbone.patch_size == 2
    assert cfg.model.rpn_head.anchor_generator.strides == [2, 4, 8, 16, 32] and cfg.model.backbone.attn_window == 2
    assert cfg.train_dataloader.dataset.metainfo.classes == ('nut', '{{x}}')
    assert ('mask_head' in cfg.model.roi_head) == masks == ('segm' in cfg.val_evaluator.metric)
    parts = [json.loads((tmp_path / f'det_{name}.json').read_text()) for name in ('train', 'val')]
    assert [len(part['images']) for part in parts] == [4, 1] and len(parts[1]['annotations']) == 1
    assert 'of 4 images' in printed
    if masks:  # five channels need images that have them
        make_step(cfg, 2)[1]()
    assert 'exists already' in call('det', weights, '--data', data, '--out', 'det.py', succeeds=False)
    parts = '--data', 'det_train.json', '--val', 'det_val.json'  # which are read now, and not written
    call('det', weights, *parts, '--out', 'det.py', '--force')


def write_masks(root, value=1, size=(40, 48), parts=('',), colours=False):
    for part in parts:
        for number in range(3):
            save(root / 'images' / part / f'{number}.jpg', np.full((40, 48, 3), 9, np.uint8))
            mask = np.zeros((*size, 3) if colours else size, np.uint8)
            mask[:9], mask[30:] = value, 255
            save(root / 'masks' / part / f'{number}_mask.png', mask)
    return root


@pytest.mark.parametrize('parts', [('',), ('train', 'validation')])
def test_a_segmentor_takes_all_from_weights_and_data(parts, call, tmp_path):
    weights, data = write_weights(tmp_path / 'tiny.pth'), write_masks(tmp_path / 'data', 2, parts=parts)
    printed = call('seg', weights, '--data', data, '--out', 'new/seg.py', '--size', 32, '--batch-size', 2)
    assert 'seg.py: UperNet, 3 classes, crops of 32 px' in printed
    cfg = Config.fromfile('new/seg.py')
    dataset = cfg.train_dataloader.dataset
    assert dataset.seg_map_suffix == '_mask.png' and dataset.metainfo.classes == ('class 0', 'class 1', 'class 2')
    assert cfg.model.decode_head.in_channels == [16, 32, 48, 64] and cfg.model.auxiliary_head.in_channels == 48
    assert ((tmp_path / 'new/seg_val.txt').exists()) == (parts == ('',))
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    assert model.backbone.patch_size == 2 and model.decode_head.num_classes == 3


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        (dict(images=[]), 'it has no images'),
        (dict(categories=[]), 'it has no categories'),
        (dict(annotations=None), 'it has no annotations'),
        (dict(categories=[dict(id=7, name='a'), dict(id=8, name='a')]), 'needs a name of its own'),
        (dict(categories=[dict(id=1, name='a')]), 'category_id=7, an id that nothing there has'),
        (dict(images=[dict(id=0, file_name='none.jpg')]), 'image_id=1, an id that nothing there has'),
        (dict(images=[dict(id=i, file_name=f'{i + 1}.jpg') for i in range(5)]), 'lacks 1 image of .* such as 5.jpg'),
        (dict(images=[dict(id=i, file_name=f'x{i}.jpg') for i in range(5)]), 'name the folder with --images'),
        (dict(images=[dict(id=i) for i in range(5)]), 'each image needs a file_name'),
        (dict(images=[dict(id=0, file_name='0.jpg')] * 2), 'needs an id of its own'),
        (dict(categories=[dict(id=[7], name='a')]), 'needs an id of its own'),
        (dict(annotations=[dict(id=0, image_id=[], category_id=7)]), r'image_id=\[\], an id that nothing there has'),
        (dict(annotations=[BOX | dict(bbox=[1, 2])]), 'has no bbox of four numbers'),
        (dict(annotations=[BOX | dict(bbox=[1, 2, np.nan, 4])]), 'has no bbox of four numbers'),
        (dict(annotations=[BOX | dict(bbox=[1, 2, 3, 10**400])]), 'has no bbox of four numbers'),
        (dict(annotations=[BOX, BOX]), 'each of its annotations needs an id of its own'),
        (dict(annotations=[BOX | dict(area=None)]), 'annotation 0 needs an area'),
        (dict(annotations=[BOX | dict(iscrowd='0')]), 'annotation 0 needs an area in pixels, and iscrowd'),
        (dict(annotations=[BOX | dict(segmentation=SQUARE[0])]), 'segmentation of annotation 0 is neither'),
        (dict(annotations=[BOX | dict(segmentation=[[1, 2]])]), 'segmentation of annotation 0 is neither'),
        (dict(annotations=[BOX | dict(segmentation=dict(size=[1, 2], counts=[2]))]), 'annotation 0 is neither'),
        (dict(annotations=[BOX | dict(iscrowd=1)]), 'has nothing to learn from'),
        (dict(annotations=[BOX | dict(bbox=[99, 2, 9, 9])]), 'has nothing to learn from'),
        (dict(images=[dict(id=i, file_name=f'{i}.jpg') for i in range(5)]), 'each image needs its height and width'),
        (
            dict(images=[dict(id=i, file_name=f'{i}.jpg', height=48, width=40) for i in range(5)]),
            'says that 0.jpg has 40 x 48 pixels, but upright, as it is read, it has 48 x 40',
        ),
    ],
)
def test_coco_files_that_cannot_be_used(changes, reason, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        read_coco(write_coco(tmp_path, **changes))
    for text in ('', '[]', '{', '[' * 100_000):
        (tmp_path / 'b.json').write_text(text)
        with pytest.raises(ValueError, match='b.json is no COCO file'):
            read_coco(tmp_path / 'b.json')


@pytest.mark.parametrize(
    ('options', 'classes', 'reason'),
    [
        (dict(size=(40, 40)), None, 'has 40 x 40 pixels, its image 48 x 40'),
        (dict(value=7), ['a', 'b'], 'has the value 7, but there are 2 classes, 0 to 1'),
        (dict(value=0), None, 'two classes are needed'),
        (dict(value=255), None, 'two classes are needed'),
        (dict(colours=True), None, 'a mask has one channel'),
        (dict(parts=('train',)), None, 'has the part train alone'),
    ],
)
def test_masks_that_cannot_be_used(options, classes, reason, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        read_masks(write_masks(tmp_path, **options), classes)


def test_masks_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no folder images'):
        read_masks(tmp_path)
    write_masks(tmp_path)
    (tmp_path / 'masks/1_mask.png').unlink()
    with pytest.raises(ValueError, match='masks lacks masks of 1 image of .*, such as 1_mask.png'):
        read_masks(tmp_path)
    (tmp_path / 'masks/0_mask.png').write_text('no image')
    save(tmp_path / 'masks/1_mask.png', np.zeros((40, 48), np.uint8))
    with pytest.raises(ValueError, match='0_mask.png cannot be read'):
        read_masks(tmp_path)
    Image.new('L', (48, 40)).save(tmp_path / 'masks/0_mask.png', 'JPEG')
    with pytest.raises(ValueError, match='0_mask.png cannot be read: JPEG changes numbers'):
        read_masks(tmp_path)
    save(tmp_path / 'images/inner/9.jpg', np.zeros((40, 48, 3), np.uint8))
    with pytest.raises(ValueError, match='has images in sub-folders, such as .*/inner/9.jpg'):
        read_masks(tmp_path)


def test_names_of_masks(tmp_path):
    write_masks(tmp_path)
    for number in range(3):
        (tmp_path / f'images/{number}.jpg').rename(tmp_path / f'images/{number}.png.jpg')
        (tmp_path / f'masks/{number}_mask.png').rename(tmp_path / f'masks/{number}.png')
    (tmp_path / 'images/._0.png.jpg').write_bytes(b'of a Mac')
    found = read_masks(tmp_path)
    assert found.endings == ('.jpg', '') and found.stems == dict(all=['0.png', '1.png', '2.png'])


@pytest.mark.parametrize(
    ('names', 'reason'),
    [
        (('a', 'a_1'), None),
        ((' a', 'b'), 'has the image'),
        (('a\n', 'b'), 'has the image'),
        (('a\udcff', 'b'), 'has the'),
    ],
)
def test_names_in_lists_and_beside_longer_ones(names, reason, tmp_path):
    for name in names:
        save(tmp_path / f'images/{name}.png', np.zeros((40, 48, 3), np.uint8))
        save(tmp_path / f'masks/{name}_mask.png', np.eye(40, 48, dtype=np.uint8))
    found = read_masks(tmp_path)
    assert found.endings == ('.png', '_mask.png')
    with pytest.raises(ValueError, match=reason) if reason else nullcontext():
        found.split(0.2)
    (tmp_path / 'classes.txt').write_text('a\nb\n', encoding='utf-16')
    with pytest.raises(ValueError, match='classes.txt is no text in UTF-8'):
        read_masks(tmp_path)


def test_masks_of_turned_photos(tmp_path):
    write_masks(tmp_path, size=(48, 40))
    for path in tmp_path.glob('images/*.jpg'):
        Image.new('RGB', (48, 40)).save(path, exif=b'Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0')
    assert len(read_masks(tmp_path).stems['all']) == 3


def test_options_of_the_other_task(call, tmp_path):
    weights, data = write_weights(tmp_path / 'tiny.pth'), write_coco(tmp_path)
    for args, reason in (
        (('det', weights, '--data', data, '--classes', 'a'), 'det takes no --classes'),
        (('seg', weights, '--data', tmp_path, '--images', tmp_path), 'seg takes no --images'),
        (('det', weights, '--data', tmp_path), 'there is no file'),
        (('seg', weights, '--data', data), 'there is no folder'),
        (('seg', weights, '--data', tmp_path, '--batch-size', '1'), 'must be 2 or more'),
    ):
        assert reason in call(*args, '--out', 'x.py', succeeds=False).splitlines()[-1]
    assert not (tmp_path / 'x.py').exists()
