"""``coma-mm compare``, as its users call it."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from processes import TOOLS
from tiny_weights import save, write_weights

import coma_mm
from coma_mm.checkpoints.reading import read_checkpoint
from coma_mm.comparing import measure_all
from coma_mm.datasets import UnreadableImageError
from coma_mm.datasets.labelled import find_labelled
from coma_mm.evaluation.accuracy import make_table
from coma_mm.evaluation.features import ImageFiles, read_batches
from coma_mm.evaluation.short_finetuning import draw_held_out, shift
from coma_mm.export.extractor import open_weights
from coma_mm.export.following import take_backbone_of
from coma_mm.utils import manifest
from coma_mm.utils.files import resource_dir
from coma_mm.visualization.classification import draw_comparison

WEIGHTS = 'coma_mm://dyvit-p_cifar10'


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('labelled')
    for number in range(6):
        save(folder / f'dark/{number}.png', 20, number)
        save(folder / f'light/{number}.png', 120, number)
    save(folder / 'lonely/0.png', 60)
    save(folder / 'beside.png', 60)
    (folder / 'dark/broken.png').write_bytes((folder / 'dark/0.png').read_bytes()[:200])
    return folder


@pytest.fixture
def compare(call):
    """Call ``coma-mm compare``; return what it printed."""
    return partial(call, 'compare')


def test_a_run_gets_table_picture_and_numbers(photos, compare, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(photos, tmp_path / 'images')
    run.mkdir()
    (run / 'config.json').write_text('{}')  # as a folder of the hub has
    with manifest.own_file(run, 'model.safetensors', 'weights') as unfinished:
        shutil.copy(resource_dir('weights') / 'dyvit-p_cifar10.safetensors', unfinished)
    printed = compare('run', 'images', '--against', WEIGHTS, '--seeds', 2, '--workers', 0)
    assert '12 images of 3 classes to learn from, 2 to classify, 50.0 % of them of the largest class' in printed
    for words in ('without a class: 1', 'without an image to classify: 1', 'skipped ', 'left out: 1', ' kNN '):
        assert words in printed
    assert 'with all labels: ' in printed and f'against {WEIGHTS}: no clear difference (' in printed
    found = json.loads((run / 'compare.json').read_text())
    assert [row['name'] for row in found['rows']] == ['run', 'random weights', 'raw pixels', WEIGHTS]
    assert found['rows'][0]['accuracy'] == found['rows'][3]['accuracy'] and found['rows'][0]['size'] == [32, 32]
    assert found['rows'][2]['accuracy']['all labels']['mean'] == 100 and len(found['unreadable']) == 1
    assert Image.open(run / 'compare.png').size[0] > 500
    owned = {'model.safetensors', 'compare.json', 'compare.png', 'pictures/comparison_0.jpg'}
    assert set(manifest.read_manifest(run)) == owned
    before = (run / 'compare.json').read_text()
    compare('run', 'images', '--seeds', 1, '--workers', 0)  # replaces its own
    assert (run / 'compare.json').read_text() != before
    assert set(os.listdir(run)) == {name.split('/')[0] for name in owned} | {manifest.MANIFEST, 'config.json'}


@pytest.mark.parametrize(
    'args, reason',
    [
        ((WEIGHTS,), 'give two names'),
        ((WEIGHTS, 'photos', 'photos'), 'give two names'),
        (('bare.pth', 'photos'), 'which backbone it has: coma-mm export FILE backbone.safetensors --config CONFIG'),
        ((WEIGHTS, 'photos', '--val', 'photos'), 'to classify are also learnt from'),
        ((WEIGHTS, 'photos', '--out', 'photos/out'), 'lies in photos, which is read'),
        ((WEIGHTS, 'photos', '--out', 'mine'), 'compare.json exists already and is not known'),
        ((WEIGHTS, 'photos', '--exclude', '*'), 'such as'),
        ((WEIGHTS, 'photos', '--against', 'nothing.pth'), 'there is no file nothing.pth'),
        ((WEIGHTS, 'photos', '--against', WEIGHTS, WEIGHTS), 'is named twice'),
        ((WEIGHTS, 'photos', '--against', 'timm://resnet10t'), 'write timm://NAME@FILE'),
        ((WEIGHTS, 'photos', '--against', 'timm://resnet10@bare.pth'), "timm has no model 'resnet10'"),
        ((WEIGHTS, 'photos', '--against', 'timm://resnet10t@bare.pth'), 'bare.pth does not fit'),
        ((WEIGHTS, 'photos/dark'), 'no sub-folders with images'),
        ((WEIGHTS, 'empty'), 'no images in'),
        ((WEIGHTS, 'one'), 'has one class, dark'),
        ((WEIGHTS, 'lonely'), 'no class in lonely has two images'),
        ((WEIGHTS, 'photos', '--val', 'others'), 'has images of other'),
    ],
)
def test_what_cannot_be_compared_ends_in_a_line(args, reason, photos, compare, tmp_path):
    for name in ('one/dark/0', 'one/dark/1', 'lonely/a/0', 'lonely/b/0', 'others/dark/0', 'others/other/0'):
        save(tmp_path / f'{name}.png', 50)
    (tmp_path / 'photos').symlink_to(photos)
    for name in ('empty', 'mine'):
        (tmp_path / name).mkdir()
    (tmp_path / 'mine/compare.json').write_text('{}')
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'bare.pth')
    before = sorted(tmp_path.rglob('*'))
    printed = compare(*args, succeeds=False)
    last = printed.splitlines()[-1]
    assert last.startswith('error: ') or ' error: ' in last, printed
    assert reason in last and 'Traceback' not in printed
    assert sorted(tmp_path.rglob('*')) == before


def test_fine_tuning_is_a_column(photos, tmp_path):
    weights = [write_weights(tmp_path / f'{frozen}.pth', frozen_stages=frozen) for frozen in (-1, 4)]
    shutil.copy(weights[0], tmp_path / 'same.pth')
    options = dict(against=[weights[1], tmp_path / 'same.pth'], seeds=3, workers=0, device='cpu')
    found = measure_all(weights[:1], photos, finetune=1, **options)
    first, random, pixels, *others = found.rows.values()
    assert [len(row['fine-tuned'].draws) for row in (first, random, *others)] == [3] * 4 and 'fine-tuned' not in pixels
    assert others[1]['fine-tuned'].draws == first['fine-tuned'].draws
    lines = make_table(found.rows).splitlines()
    assert lines[0].endswith('fine-tuned') and lines[3].endswith('   -') and lines[3].startswith('raw pixels')
    assert draw_comparison(found.rows, 'title').dtype == np.uint8
    assert any(text.startswith('fine-tuned: ') for text in found.describe()['verdicts'])


def test_hard_links_are_the_same_image(photos, tmp_path):
    shutil.copytree(photos, tmp_path / 'val', copy_function=os.link)
    with pytest.raises(ValueError, match='images to classify are also learnt from'):
        find_labelled(photos, tmp_path / 'val')


def test_images_that_vanish_while_it_measures_are_named(tmp_path):
    for name in 'ab':
        save(tmp_path / f'{name}.png', 99)
    images = ImageFiles([str(tmp_path / f'{name}.png') for name in 'ab'], 8, 8, {}).take([0, 1])
    (tmp_path / 'b.png').unlink()
    with pytest.raises(UnreadableImageError, match='b.png'):
        list(read_batches(images, 1, 0, ''))


def test_fewer_passes_over_many_images(photos, tmp_path, monkeypatch):
    weights = write_weights(tmp_path / 'tiny.pth')
    options = dict(seeds=4, workers=0, device='cpu')
    every = coma_mm.compare(weights, photos, **options)['rows']
    monkeypatch.setattr('coma_mm.comparing.MANY', 1)
    fewer = coma_mm.compare(weights, photos, **options)['rows']
    random, again = every[1]['accuracy'], fewer[1]['accuracy']
    assert every[0] == fewer[0] and every[2] == fewer[2]
    few = {*random} - {'kNN', 'all labels'}
    assert few and all(random[column] == again[column] for column in few)
    for column in ('kNN', 'all labels'):
        assert len(random[column]['draws']) == 3 and again[column]['draws'] == random[column]['draws'][:1]


# Wrong values of each argument, and words of what is said of them.
WRONG = dict(
    weights=[
        *((value, 'weights must name') for value in (None, [], ' ')),
        *(('nothing.pth', 'nothing.pth'), ('nothing\0.pth', 'nothing'), ([WEIGHTS, WEIGHTS], 'give others as against')),
    ],
    data=[(None, 'data must be a folder'), ('nowhere', 'nowhere'), ('nothing\0', 'nothing')],
    against=[*((value, 'against must be a list') for value in (WEIGHTS, 5, [None])), (['nothing.pth'], 'nothing.pth')],
    val=[('nowhere', 'nowhere'), (5, 'val must')],
    finetune=[(value, 'finetune') for value in (0, True, 'many')],
    seeds=[(0, 'seeds'), (2.5, 'seeds')],
    device=[(value, 'device') for value in ('nowhere', 5.5, 'meta')],
    batch_size=[(-1, 'batch_size')],
    workers=[('a', 'workers')],
    size=[(0, 'size')],
    max_pixels=[(0, 'max_pixels')],
    exclude=[(5, 'exclude')],
    finetunes=[(5, 'did you mean')],
)  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_arguments_of_the_function(name, photos):
    for value, reason in WRONG[name]:
        with pytest.raises((ValueError, FileNotFoundError), match=reason) as error:
            coma_mm.compare(**dict(weights=WEIGHTS, data=photos, workers=0) | {name: value})
        assert '\n' not in str(error.value)


def test_images_that_are_held_out_and_shifted():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2])
    held = draw_held_out(labels)
    assert labels[held].tolist() == [0, 0, 1] and draw_held_out(torch.arange(20_000) % 2).sum() == 1000
    images = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    moved = shift(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and not torch.equal(moved, images)
    assert torch.equal(moved[:, 1] - moved[:, 0], images[:, 1] - images[:, 0])


def test_parts_of_a_labelled_folder(photos, tmp_path):
    divided = find_labelled(photos)
    assert [len(divided.learn), len(divided.test)] == [12, 2] and divided.classes == ('dark', 'light', 'lonely')
    assert find_labelled(photos).test == divided.test and not {*divided.learn} & {*divided.test}
    shutil.copytree(photos / 'light', tmp_path / 'val/light')
    apart = find_labelled(photos, tmp_path / 'val')
    assert len(apart.learn) == 14 and {label for _, label in apart.test} == {1} and len(apart.test) == 6
    shutil.copytree(photos, tmp_path / 'train')
    assert len(find_labelled(tmp_path).learn) == 14 and len(find_labelled(tmp_path).test) == 6
    for number in range(3):
        save(tmp_path / f'train/dark/{number}_mask.png', 0)
    assert "masks of others have: 3; to leave them out: --exclude '*_mask.*'" in find_labelled(tmp_path).left_out[0]
    assert len(find_labelled(tmp_path, exclude=['*_mask.png', 'lonely']).learn) == 13


def test_weights_are_fed_with_images_as_their_file_says(tmp_path, capfd):
    preprocessor = open_weights(None, WEIGHTS).extractor.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx([125.3, 123.0, 113.9])
    assert 'warning' not in capfd.readouterr().err
    bare = read_checkpoint(WEIGHTS)
    bare['meta'].pop('model')
    torch.save(bare, tmp_path / 'bare.pth')
    open_weights(None, str(tmp_path / 'bare.pth'))
    assert 'bare.pth states no mean and std, so images are not normalised' in capfd.readouterr().err


def test_models_of_timm_are_read_from_a_file(tmp_path):
    import timm

    torch.manual_seed(0)
    model = timm.create_model('test_vit')
    torch.save(model.state_dict(), tmp_path / 'vit.pth')
    weights = open_weights(None, f'timm://test_vit@{tmp_path}/vit.pth')
    images = torch.rand(2, 3, *weights.size)
    expected = model.eval().forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(weights.extractor(images), expected)


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_colours_come_in_the_order_that_the_weights_say(order, tmp_path):
    read = torch.load(write_weights(tmp_path / 'tiny.pth'))
    read['meta']['channel_order'] = json.dumps(order)
    torch.save(read, tmp_path / 'tiny.pth')
    weights = open_weights(None, str(tmp_path / 'tiny.pth'))
    assert weights.extractor.data_preprocessor._channel_conversion == (order == 'BGR')


def test_knn_configs_take_size_and_normalisation_from_the_weights(capfd):
    def adapt(*options):
        cfg = Config.fromfile(TOOLS.parent / 'configs/cls/knn_dyvit-b_folder.py')
        take_backbone_of(cfg, WEIGHTS, options)
        steps = cfg.test_dataloader.dataset.pipeline, cfg.test_cfg.bank.dataset.pipeline
        return cfg.model.data_preprocessor.mean, [(resize.scale, crop.crop_size) for _, resize, crop, _ in steps]

    assert adapt() == ([125.3, 123.0, 113.9], [(37, 32)] * 2)
    kept = adapt('model.data_preprocessor.mean', 'test_dataloader.dataset.pipeline.1.scale')
    assert kept == ([123.675, 116.28, 103.53], [(256, 224)] * 2)
    assert 'patch_size=1' in capfd.readouterr().out
