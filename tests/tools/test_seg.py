"""Train, validate, resume and test a shipped segmentation config, as its users do."""

import re
from pathlib import Path

from noise import write_noise
from PIL import Image
from processes import call

CONFIG = Path(__file__).parents[2] / 'configs/seg/upernet_dyvit-t_160k_ade20k-512.py'
SIZES = dict(training=dict(wide=(83, 131), tall=(117, 75)), validation=dict(wide=(75, 101), tall=(97, 61)))
CROP = (64, 64)


def save_scenes(root):
    """Write images of different, odd sizes, and masks with ADE20K's numbers."""
    for part, sizes in SIZES.items():
        for name, size in sizes.items():
            write_noise(root / 'images' / part / f'{name}.jpg', size)
            write_noise(root / 'annotations' / part / f'{name}.png', size, 151)


def changes():
    """Return the options that make the config small."""
    size = str(CROP).replace(' ', '')
    options = {
        'model.backbone.arch': 'pico',
        'model.backbone.init_cfg': None,
        'model.decode_head.in_channels': '[32,64,128,256]',
        'model.decode_head.channels': 32,  # 0.4 GB a checkpoint otherwise
        'model.auxiliary_head.in_channels': 128,
        'model.data_preprocessor.size': size,
        'model.test_cfg.crop_size': size,
        'model.test_cfg.stride': '(43,43)',
        'train_dataloader.dataset.pipeline.2.scale': '(256,64)',
        'train_dataloader.dataset.pipeline.3.crop_size': size,
        'default_hooks.logger.interval': 1,
    }
    for part in ('train', 'val', 'test'):
        options[f'{part}_dataloader.dataset.data_root'] = 'scenes'
        options[f'{part}_dataloader.num_workers'] = 0
        options[f'{part}_dataloader.persistent_workers'] = False
        if part != 'train':
            options[f'{part}_dataloader.dataset.pipeline.1.scale'] = '(256,64)'
    for number, side in enumerate((32, 48, 64, 80, 96, 112)):
        options[f'tta_pipeline.1.transforms.0.{number}.scale'] = f'({4 * side},{side})'
    return [f'{key}={value}' for key, value in options.items()]


def test_train_validate_resume_and_test(perform, tmp_path):
    save_scenes(tmp_path / 'scenes')
    extras = ['--work-dir', 'out', '--cfg-options', *changes()]
    printed = call(tmp_path, 'train.py', CONFIG, *extras, 'train_cfg.max_iters=2')
    assert re.search(r'Iter\(val\) \[2/2\].* mIoU: ', printed) and 'UserWarning' not in printed
    assert (tmp_path / 'out' / 'best_mIoU_iter_2.pth').exists()

    # Two processes go on; the pre-trained weights that the config names are not asked for again.
    resumed = [option for option in extras if option != 'model.backbone.init_cfg=None']
    printed = call(tmp_path, 'dist_train.sh', CONFIG, 2, '--resume', *resumed, 'train_cfg.max_iters=6')
    # A step has twice the images now, so half as many steps are the same run.
    assert re.findall(r'Iter\(train\) \[(\d)/3\]', printed) == ['2', '3']
    assert 'mIoU: ' in printed

    checkpoint = tmp_path / 'out' / 'iter_3.pth'
    printed = perform(tmp_path, 'test.py', CONFIG, checkpoint, '--show-dir', 'pictures', '--tta', *extras)
    assert 'mIoU: ' in printed
    pictures = {path.name.split('.')[0]: Image.open(path).size for path in (tmp_path / 'pictures').rglob('*.png')}
    # Each shows the annotation and the prediction side by side, as large as the image was.
    assert pictures == {f'test_{name}': (2 * width, height) for name, (height, width) in SIZES['validation'].items()}
