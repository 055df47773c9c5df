"""No checkpoint runs code, wherever it comes from."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from PIL import Image
from processes import TINY, refuse

from coma_mm.engine.checkpoint import read_checkpoints_safely
from coma_mm.models import read_checkpoint

INIT = ['model.backbone.init_cfg.checkpoint=URL']


@pytest.fixture
def server(tmp_path, code, monkeypatch):
    """A server of checkpoints, one of which would make the folder ``ran``."""
    folder = tmp_path / 'served'
    folder.mkdir()
    good = dict(state_dict=dict(a=torch.ones(1)), meta=dict(epoch=1, config=f'import os; os.mkdir("{code.path}")'))
    torch.save(good, folder / 'good.pth')
    for name in ('bad.pth', 'bad-0123abcd.pth'):
        torch.save(dict(state_dict={}, meta={}, extra=code), folder / name)
    torch.save(dict(state_dict={'backbone.a': torch.ones(1), 'head.b': torch.ones(1)}), folder / 'cls-89abcdef.pth')
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_addresses(server, schemes, tmp_path):
    with pytest.raises(ValueError, match='/bad.pth holds more than weights and plain data'):
        read_checkpoint(f'{server}/bad.pth')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint http://.*/none.pth: .*404'):
        read_checkpoint(f'{server}/none.pth')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint torchvision://nothing: mmengine knows none'):
        read_checkpoint('torchvision://nothing')
    read_checkpoints_safely()
    for name in ('bad.pth', 'bad-0123abcd.pth'):
        with pytest.raises(ValueError, match='holds more than weights and plain data'):
            CheckpointLoader.load_checkpoint(f'{server}/{name}')
    assert CheckpointLoader.load_checkpoint(f'{server}/good.pth')['meta'] == dict(epoch=1)
    assert all(loader is read_checkpoint for loader in CheckpointLoader._schemes.values())


def test_a_name_with_a_hash_is_fetched_once(server, tmp_path):
    first = read_checkpoint(f'{server}/cls-89abcdef.pth')['state_dict']
    (tmp_path / 'served/cls-89abcdef.pth').unlink()
    assert read_checkpoint(f'{server}/cls-89abcdef.pth')['state_dict'].keys() == first.keys()
    read_checkpoint(f'{server}/good.pth')
    (tmp_path / 'served/good.pth').unlink()
    with pytest.raises(FileNotFoundError):
        read_checkpoint(f'{server}/good.pth')


def test_names_in_tables(server, monkeypatch):
    tables = 'mmengine.runner.checkpoint.get_mmcls_models', 'mmengine.runner.checkpoint.get_torchvision_models'
    for table in tables:
        monkeypatch.setattr(table, lambda: dict(net=f'{server}/cls-89abcdef.pth'))
    assert list(read_checkpoint('mmcls://net')['state_dict']) == ['a']
    assert list(read_checkpoint('torchvision://net')['state_dict']) == ['backbone.a', 'head.b']


@pytest.mark.parametrize(
    'address',
    ['file:///x.pth', 'ftp://x/y.pth', 's3://x/y.pth', 'c:s3://x/y.pth', 'petrel://x', 'pavi://x', 'a://b://c'],
)
def test_addresses_that_nothing_reads(address, schemes):
    read_checkpoints_safely()
    for read in read_checkpoint, CheckpointLoader.load_checkpoint:
        with pytest.raises(FileNotFoundError, match=f'no way to the checkpoint {address}: .*; download it, and give'):
            read(address)


def test_loaders_of_users_stay(schemes):
    CheckpointLoader.register_scheme('mine://', lambda path, map_location=None: dict(mine=path))
    read_checkpoints_safely()
    assert CheckpointLoader.load_checkpoint('mine://x') == dict(mine='mine://x')


@pytest.mark.parametrize(
    ('tool', 'args'),
    [
        ('train.py', [TINY, '--resume', 'URL']),
        ('train.py', [TINY, '--cfg-options', 'load_from=URL']),
        ('train.py', [TINY, '--cfg-options', *INIT, 'model.backbone.init_cfg.type=Pretrained']),
        ('train.py', [TINY, '--cfg-options', *INIT, 'model.backbone.init_cfg.type=coma_mm.Pretrained']),
        ('test.py', ['KNN', 'URL']),
        ('extract_features.py', [TINY, 'URL', 'image.png']),
        ('visualize.py', [TINY, 'URL', 'image.png']),
        ('export.py', ['URL', 'out.pth']),
    ],
)
def test_tools(server, schemes, monkeypatch, capfd, tmp_path, tool, args):
    cfg = Config.fromfile(TINY)
    loader = dict(cfg.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False))
    cfg.update(test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(type='mmpretrain.Accuracy'))
    cfg.dump(tmp_path / 'knn.py')
    Image.new('RGB', (48, 48)).save(tmp_path / 'image.png')
    args = [str(arg).replace('URL', f'{server}/bad.pth').replace('KNN', 'knn.py') for arg in args]
    try:
        said = refuse(monkeypatch, capfd, tmp_path, tool, *args)
    except ValueError as error:
        said = str(error)
    assert '/bad.pth holds more than weights and plain data' in said
