"""A run tells its own settings: to those who go on with it, look at it or measure it."""

import json
import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from noise import write_noise
from PIL import Image
from processes import TINY, last_line, refuse, run

SMALL = ['model.backbone.arch.dims=[8,16,24,32]', 'train_cfg.max_epochs=1', 'custom_hooks=[]']


@pytest.fixture
def tool(monkeypatch, capfd, tmp_path):
    """Return a function that runs a tool in a folder of its own and returns what it printed."""
    for name in ('x', 'y'):
        for i in range(12):
            write_noise(tmp_path / 'photos' / name / f'{i}.png', seed=i)

    def call(name, *args):
        MMLogger._instance_dict.clear()
        run(monkeypatch, tmp_path, name, *args)
        return capfd.readouterr().out

    return call


def test_options_need_not_be_given_again(tool, tmp_path):
    schedule = "param_scheduler = [dict(type='CosineAnnealingLR', T_max=2, end=2)]"
    (tmp_path / TINY.name).write_text(f'_base_ = {str(TINY)!r}\n{schedule}\n')
    begun = tool('train.py', TINY.name, '--work-dir', 'run', '--no-validate', '--cfg-options', *SMALL)
    assert begun.startswith(f'coma_mm 0.1.0: train {TINY.name} --work-dir run') and 'System environment' not in begun
    assert re.search(r'12 images; CoMA, [\d.]+ M parameters to train of [\d.]+ M; 3 steps of 4 images; on the', begun)
    assert 'FileClient' not in begun and 'OneDL' not in begun

    config, kept = (tmp_path / 'run' / 'tiny_coma.py').read_text(), (tmp_path / 'run' / 'options.json').read_text()
    again = tool('train.py', TINY.name, '--work-dir', 'run', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert again.count('param_scheduler was made for 2: it is stretched to the run') == 1
    assert f'as at the start of the run in run: --no-validate {SMALL[0]} {SMALL[2]}' in again
    assert '9 steps of 4 images, 3 of them done' in again and (tmp_path / 'run' / 'epoch_3.pth').is_file()
    now = Config.fromfile(tmp_path / 'run' / 'tiny_coma.py')
    assert now.model.backbone.arch.dims == [8, 16, 24, 32] and now.train_cfg.max_epochs == 3
    assert json.loads((tmp_path / 'run' / 'options.json').read_text())['cfg_options'][-1] == 'train_cfg.max_epochs=3'
    assert now.pretty_text != config and json.loads(kept)['no_validate'] is True


def test_batches_of_one_update_are_told(tool):
    counts = 'optim_wrapper.accumulative_counts=3'
    said = tool('train.py', TINY, '--work-dir', 'run', '--no-validate', '--cfg-options', *SMALL, counts)
    assert '3 steps of 4 images, 3 for each update; on' in said and 'scheduler.step' not in said


def test_a_failed_start_changes_nothing(tool, tmp_path, monkeypatch, capfd):
    tool('train.py', TINY, '--work-dir', 'run', '--cfg-options', *SMALL)
    before = {path: path.read_bytes() for path in (tmp_path / 'run').iterdir() if path.is_file()}
    wrong = ['--resume', '--cfg-options', 'model.backbone.arch.dims=[16,16,24,32]', 'train_cfg.max_epochs=2']
    error = last_line(refuse(monkeypatch, capfd, tmp_path, 'train.py', TINY, '--work-dir', 'run', *wrong))
    assert error.startswith('error: the checkpoint does not fit the model CoMA of this config')
    assert 'backbone.patch_embed.weight (8, 12) instead of (16, 12)' in error
    assert {path: path.read_bytes() for path in (tmp_path / 'run').iterdir() if path.is_file()} == before


def test_a_run_is_all_that_pictures_features_and_knn_need(tool, tmp_path, monkeypatch, capfd):
    tool('train.py', TINY, '--work-dir', 'run', '--cfg-options', *SMALL)
    tool('export.py', 'run/epoch_1.pth', 'backbone.pth')
    assert 'written to reconstruction.png' in tool('visualize.py', 'run', 'photos/x/1.png')
    assert 'written to reconstruction.png' in tool('visualize.py', 'run/epoch_1.pth', 'photos/x/1.png')
    found = []
    for source in ('run', 'backbone.pth'):  # an exported file says what it is
        printed = tool('extract_features.py', source, 'photos', '--batch-size', '8', '--workers', '0')
        assert '24 images of 2 classes, 112 features each' in printed
        with np.load(tmp_path / 'features.npz') as arrays:
            found.append(arrays['features'])
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)

    knn = TINY.parents[2] / 'configs/cls/knn_dyvit-b_folder.py'
    options = [f'{place}.dataset.data_root=photos' for place in ('test_dataloader', 'test_cfg.bank')]
    options += [f'{place}.num_workers=0' for place in ('test_dataloader', 'test_cfg.bank')]
    printed = tool('test.py', knn, 'run/epoch_1.pth', '--cfg-options', *options, 'test_evaluator.k=(1,)')
    assert 'the backbone is that of run/epoch_1.pth: arch=' in printed and 'knn/top1_k1: ' in printed

    for args, words in [
        (['backbone.pth', 'photos'], 'there is no config beside backbone.pth: give the one that it was trained with'),
        (['run'], 'images are missing: give [CONFIG] CHECKPOINT IMAGES...'),
        ([TINY], 'a checkpoint is missing: give [CONFIG] CHECKPOINT'),
    ]:
        assert words in refuse(monkeypatch, capfd, tmp_path, 'visualize.py', *args)


def test_what_training_gets_to_see(tool, tmp_path, monkeypatch, capfd):
    pipeline = [
        "dict(type='coma_mm.LoadRandomResizedCrop', scale=48)",
        "dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16, ratio=0.6)",
        "dict(type='coma_mm.PackMaskedImage')",
    ]
    data = f"dict(_delete_=True, type='coma_mm.ImageFolder', data_root='photos', pipeline=[{', '.join(pipeline)}])"
    (tmp_path / 'folder.py').write_text(f'_base_ = {str(TINY)!r}\ntrain_dataloader = dict(dataset={data})\n')
    for config in (TINY, 'folder.py'):
        printed = tool('browse.py', config, '--max-images', '3', '--out', 'new/seen.png')
        assert '3 of the training images, as the model gets them; written to new/seen.png' in printed
        with Image.open(tmp_path / 'new/seen.png') as picture:
            assert picture.size[0] > 4 * 187  # pixels: the file, the input, what each branch sees of it
    (tmp_path / 'none.py').write_text("model = dict(type='X')\n")
    assert 'nothing that training would see' in refuse(monkeypatch, capfd, tmp_path, 'browse.py', 'none.py')
