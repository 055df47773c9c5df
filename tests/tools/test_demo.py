"""The runs of `make demo`, shortened to seconds."""

import re

from processes import TOOLS, last_line

CONFIGS = TOOLS.parent / 'configs/pretrain'
SHORT = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']


def test_photos(perform, tmp_path):
    options = ['--cfg-options', *SHORT, 'train_dataloader.dataset.length=4']
    printed = perform(tmp_path, 'train.py', CONFIGS / 'coma_dyvit-p_photos.py', *options)
    work_dir = tmp_path / 'work_dirs/coma_dyvit-p_photos'
    assert (work_dir / 'reconstruction.png').stat().st_size > 50_000
    assert (work_dir / 'epoch_1.pth').exists()
    assert 'average of 7: reconstruction' in printed and 'mean-colour baseline 14.0 dB' in printed
    assert 'The picture: work_dirs/coma_dyvit-p_photos/reconstruction.png' in printed
    assert last_line(printed) == 'Next, your own images: coma-mm pretrain FOLDER --out runs/mine'


def test_unseen_photos(perform, tmp_path):
    config, weights = CONFIGS / 'mae_dyvit-p_cifar10.py', 'coma_mm://dyvit-p_cifar10'
    printed = perform(tmp_path, 'visualize.py', config, weights, '--photos', '--out', 'unseen.png')
    (gain,) = re.findall(r'average of 7: reconstruction .* dB: \+([\d.]+) dB', printed)
    assert float(gain) > 2.5 and (tmp_path / 'unseen.png').stat().st_size > 50_000


def test_digits(perform, tmp_path):
    options = ['--cfg-options', *SHORT, 'train_dataloader.dataset.indices=4']
    options += ['custom_hooks.2.data.size=16']  # the digits that features are compared on
    printed = perform(tmp_path, 'train.py', CONFIGS / 'coma_dyvit-p_digits.py', *options)
    assert "kNN accuracy on scikit-learn's handwritten digits (898 to compare with, 899 to classify)" in printed
    assert 'random weights 9' in printed and 'weights just trained' in printed
