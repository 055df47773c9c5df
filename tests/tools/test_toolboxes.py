"""``train.py`` and ``test.py`` on stock configs of mmdet and mmseg, and on a classifier of mmpretrain."""

import pickle

import pytest
from noise import write_noise
from processes import TINY, call, last_line, refuse
from tiny_coco import write_coco
from tiny_run import stock

CLASSIFIER = TINY.with_name('tiny_classifier.py')


def loader_options(*names):
    return [f'{name}_dataloader.{option}' for name in names for option in ('num_workers=0', 'persistent_workers=False')]


def test_mmdet(perform, tmp_path):
    write_coco(tmp_path / 'data/coco')
    config = stock('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py')
    options = [
        'model.backbone.init_cfg=None',
        'model.test_cfg.score_thr=0.0',
        'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    ]
    options += ['test_dataloader.dataset.pipeline.1.scale=(64,64)', 'train_cfg.max_epochs=1']
    options += loader_options('train', 'test')

    perform(tmp_path, 'train.py', config, '--no-validate', '--work-dir', 'out', '--cfg-options', *options)
    checkpoint = tmp_path / 'out' / 'epoch_1.pth'
    extras = ['--work-dir', 'out', '--out', 'predictions.pkl', '--show-dir', 'pictures']
    printed = perform(tmp_path, 'test.py', config, checkpoint, *extras, '--cfg-options', *options)
    assert 'bbox_mAP: ' in printed
    predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    assert [found['img_id'] for found in predictions] == [0, 1, 2] and 'bboxes' in predictions[0]['pred_instances']
    assert sorted(path.name for path in (tmp_path / 'pictures').iterdir()) == ['0.jpg', '1.jpg', '2.jpg']


def test_mmseg(perform, tmp_path):
    city = tmp_path / 'data' / 'cityscapes'
    for part, number in (('train', 1), ('train', 2), ('val', 3)):
        write_noise(city / 'leftImg8bit' / part / f'{number}_leftImg8bit.png', (64, 128))
        write_noise(city / 'gtFine' / part / f'{number}_gtFine_labelTrainIds.png', (64, 128), classes=19)
    config = stock('mmseg', 'fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py')
    options = ['model.pretrained=None', 'model.data_preprocessor.size=(64,128)', 'train_cfg.max_iters=1']
    options += ['train_dataloader.dataset.pipeline.2.scale=(128,64)', 'default_hooks.logger.interval=1']
    options += ['train_dataloader.dataset.pipeline.3.crop_size=(64,128)']
    options += ['test_dataloader.dataset.pipeline.1.scale=(128,64)']
    options += loader_options('train', 'test')

    call(tmp_path, 'train.py', config, '--no-validate', '--work-dir', 'out', '--cfg-options', *options)
    checkpoint = tmp_path / 'out' / 'iter_1.pth'
    extras = ['--work-dir', 'out', '--out', 'predictions.pkl', '--show-dir', 'pictures', '--tta']
    printed = perform(tmp_path, 'test.py', config, checkpoint, *extras, '--cfg-options', *options)
    assert 'mIoU: ' in printed
    (prediction,) = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    assert prediction['pred_sem_seg']['data'].shape == (1, 64, 128)
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 1


def test_mmpretrain(perform, monkeypatch, capfd, tmp_path):
    for name in ('cat/1', 'cat/2', 'dog/3', 'dog/4'):
        write_noise(tmp_path / 'photos' / f'{name}.png')
    perform(tmp_path, 'train.py', CLASSIFIER, '--work-dir', 'out')  # which leaves collate_fn to the tool

    extras = ['--work-dir', 'out', '--out', 'predictions.pkl', '--show-dir', 'pictures']
    printed = call(tmp_path, 'dist_test.sh', CLASSIFIER, 'out/epoch_1.pth', 2, *extras)
    assert 'accuracy/top1: ' in printed
    assert len(pickle.loads((tmp_path / 'predictions.pkl').read_bytes())) == 4
    assert len(list((tmp_path / 'pictures').iterdir())) == 2  # the toolbox draws on the first rank only

    options = ['--cfg-options', 'model.head.num_classes=3']
    error = last_line(refuse(monkeypatch, capfd, tmp_path, 'test.py', CLASSIFIER, 'out/epoch_1.pth', *options))
    assert error.startswith('error: the checkpoint does not fit the model ImageClassifier of this config')
    assert 'head.fc.weight (2, 256) instead of (3, 256)' in error


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        (['some.pth', '--tta'], 'error: --tta needs tta_model and tta_pipeline'),
        (['some.pth', '--show-dir', 'a', '--cfg-options', 'default_hooks=None'], 'needs default_hooks.visualization'),
        (['some.pth', '--cfg-options', 'test_dataloader=None'], 'has no test_dataloader'),
    ],
)
def test_what_cannot_start(monkeypatch, capfd, tmp_path, args, error):
    (tmp_path / 'some.pth').touch()
    assert error in refuse(monkeypatch, capfd, tmp_path, 'test.py', CLASSIFIER, *args)
