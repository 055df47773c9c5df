"""Commands read images as the run did that they are about: channels, range of values, size."""

import json
import os

import numpy as np
import pytest
import tifffile
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

import coma_mm
from coma_mm.checkpoints.reading import read_checkpoint
from coma_mm.datasets import ImageShards, LoadImage
from coma_mm.recipe import make_config
from coma_mm.settings import PretrainSettings

RANGE = 0, 4095
NAMES = ['a.tif', 'new\nline.tif', 'caf\udce9.tif', 'd$^{.tif']


def write_images(folder, channels):
    """Write some smooth images of 12 bits."""
    folder.mkdir()
    rows, columns = np.mgrid[:48, :64]
    for seed, name in enumerate(NAMES):
        bands = [np.sin(columns / (7 + band)) * np.cos(rows / 9 + seed) for band in range(channels)]
        values = np.round((np.stack(bands, axis=2) + 1) * (RANGE[1] / 2)).astype(np.uint16)
        kind, layout = ('rgb', 'contig') if channels == 3 else ('minisblack', 'contig' if channels > 1 else None)
        tifffile.imwrite(folder / name, values.squeeze(), photometric=kind, planarconfig=layout)


@pytest.fixture(params=[1, 4])
def run(request, tmp_path):
    """Images and, as a run would leave them, a config and a checkpoint; returns the channels."""
    write_images(tmp_path / 'images', request.param)
    given = dict(arch='pico', steps=2, size=32, batch_size=4, workers=0, channels=request.param, value_range=RANGE)
    cfg = make_config(PretrainSettings(['images'], 'run', **given))
    assert cfg.train_dataloader.dataset.pipeline[0].value_range == list(RANGE)
    (tmp_path / 'run').mkdir()
    cfg.dump(tmp_path / 'run/config.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(cfg=cfg.pretty_text)), tmp_path / 'run/last.pth')
    return request.param


def test_all_commands(run, call, tmp_path):
    checkpoint = 'run/config.py', 'run/last.pth'
    call('export', 'run/last.pth', 'weights.safetensors', '--hub-dir', 'hub', '--prefix', 'backbone.')
    meta = read_checkpoint('weights.safetensors')['meta']
    assert json.loads(meta['channels']) == run and json.loads(meta['value_range']) == list(RANGE)
    hub = json.loads((tmp_path / 'hub/config.json').read_text())
    assert hub['channels'] == run and hub['value_range'] == list(RANGE)
    assert '0 to 4095' in (tmp_path / 'hub/README.md').read_text()

    found = []
    for model in (checkpoint, ('weights.safetensors',)):
        call('embed', *model, 'images', '--workers', '0', '--pool', 'mean', '--out', 'features.npz')
        with np.load('features.npz') as arrays:
            found.append(arrays['features'])
            assert sorted(map(os.path.basename, arrays['paths'].tolist())) == sorted(NAMES)
    assert np.allclose(*found, atol=1e-5)
    # as the images of all levels are seen, and not the 17 of 65,536
    model = coma_mm.load_backbone('weights.safetensors')
    settings = dict(channels=run, value_range=RANGE)
    img = coma_mm.datasets.loading.fit_image(coma_mm.datasets.read_image('images/a.tif', **settings), 32, 32)
    mean, std = (torch.tensor(json.loads(meta[name])).view(-1, 1, 1) for name in ('mean', 'std'))
    with torch.no_grad():
        assert np.allclose(model(((img - mean) / std)[None])[-1][0].mean((1, 2)), found[0][0], atol=1e-4)

    printed = call('visualize', *checkpoint, 'images', '--out', 'seen.png')
    assert 'new\\nline.tif: ' in printed and 'caf\\xe9.tif: ' in printed
    call('browse', 'run/config.py', '--out', 'browsed.png')
    for name in ('seen.png', 'browsed.png'):
        with Image.open(name) as picture:
            pixels = np.array(picture.convert('RGB')).astype(int)
        is_grey = (pixels.max(2) - pixels.min(2) < 3).mean()
        assert pixels.std() > 20 and ((is_grey > 0.75) == (run == 1) or name == 'seen.png')

    for options in ([], ['--short-side', '40']):
        shards = f'shards{len(options)}'
        call('shards', 'images', shards, '--workers', '0', '--channels', run, *options)
        dataset = ImageShards(shards, pipeline=[LoadImage(run, RANGE)])
        assert len(dataset) == len(NAMES)
        assert all(dataset[i]['img'].shape == (*((40, 53) if options else (48, 64)), run) for i in range(len(dataset)))
        assert all(len(np.unique(dataset[i]['img'])) > 200 for i in range(len(dataset)))


@pytest.mark.parametrize('run', [3], indirect=True)
def test_larger_images_have_an_option(run, call):
    checkpoint = 'run/config.py', 'run/last.pth'
    for command in (
        ['embed', *checkpoint, 'images', '--workers', '0'],
        ['visualize', *checkpoint, 'images'],
        ['browse', 'run/config.py'],
        ['shards', 'images', 'out', '--workers', '0', '--short-side', '8'],
        ['pretrain', 'images', '--out', 'new', '--arch', 'pico', '--size', '32', '--steps', '1', '--workers', '0'],
    ):
        said = call(*command, '--max-pixels', '3000', succeeds=False)
        assert '3072 pixels are more than the limit of 3000' in said and '--max-pixels N' in said, command


def test_a_folder_that_pytorch_cannot_write_to_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r'run\\xe9 has a name in it that is not UTF-8: give out \(--out\) another'):
        coma_mm.pretrain('images', str(tmp_path / 'run\udce9'))
    assert not list(tmp_path.iterdir())
