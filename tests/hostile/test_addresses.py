"""No checkpoint runs code, wherever it comes from."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from PIL import Image
from processes import TINY, refuse

from coma_mm.checkpoints import downloads
from coma_mm.checkpoints.reading import read_checkpoints_safely
from coma_mm.models import read_checkpoint

INIT = ['model.backbone.init_cfg.checkpoint=URL']


@pytest.fixture
def server(tmp_path, code, monkeypatch):
    """A server of checkpoints, one of which would make the folder ``ran``."""
    folder = tmp_path / 'served'
    folder.mkdir()
    good = dict(state_dict=dict(a=torch.ones(1)), meta=dict(epoch=1, config=f'import os; os.mkdir("{code.path}")'))
    torch.save(good, folder / 'good.pth')
    torch.save(dict(state_dict={}, meta={}, extra=code), folder / 'bad.pth')
    torch.save(dict(state_dict={'backbone.a': torch.ones(1), 'head.b': torch.ones(1)}), folder / 'cls.pth')
    for name in ('bad', 'cls'):  # with their own hashes, and another's
        data = (folder / f'{name}.pth').read_bytes()
        (folder / f'{name}-{hashlib.sha256(data).hexdigest()[:8]}.pth').write_bytes(data)
        (folder / f'{name}-0123abcd.pth').write_bytes(data)
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def hashed(folder, name):
    """Return the file of this name with its own hash."""
    return next(path.name for path in folder.glob(f'{name}-*') if '0123abcd' not in path.name)


def test_addresses(server, schemes, tmp_path):
    with pytest.raises(ValueError, match='/bad.pth holds more than weights and plain data'):
        read_checkpoint(f'{server}/bad.pth')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint http://.*/none.pth: .*404'):
        read_checkpoint(f'{server}/none.pth')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint torchvision://nothing: mmengine knows none'):
        read_checkpoint('torchvision://nothing')
    read_checkpoints_safely()
    for name in ('bad.pth', hashed(tmp_path / 'served', 'bad')):
        with pytest.raises(ValueError, match='holds more than weights and plain data'):
            CheckpointLoader.load_checkpoint(f'{server}/{name}')
    assert CheckpointLoader.load_checkpoint(f'{server}/good.pth')['meta'] == dict(epoch=1)
    assert all(loader is read_checkpoint for loader in CheckpointLoader._schemes.values())


def test_a_name_with_a_hash_is_fetched_once(server, tmp_path):
    name = hashed(tmp_path / 'served', 'cls')
    first = read_checkpoint(f'{server}/{name}')['state_dict']
    (tmp_path / 'served' / name).unlink()
    assert read_checkpoint(f'{server}/{name}')['state_dict'].keys() == first.keys()
    (kept,) = (tmp_path / 'cache').rglob('*.pth')
    kept.write_bytes(kept.read_bytes()[:-1] + b'x')  # it is verified each time
    with pytest.raises(FileNotFoundError):
        read_checkpoint(f'{server}/{name}')
    read_checkpoint(f'{server}/good.pth')
    (tmp_path / 'served/good.pth').unlink()
    with pytest.raises(FileNotFoundError):
        read_checkpoint(f'{server}/good.pth')


def test_nothing_is_kept_that_was_refused_or_cut(server, tmp_path, monkeypatch):
    served = tmp_path / 'served'
    with pytest.raises(FileNotFoundError, match='cls-0123abcd.pth sends has the SHA-256 .* not the one in its name'):
        read_checkpoint(f'{server}/cls-0123abcd.pth')
    with pytest.raises(ValueError, match='holds more than'):
        read_checkpoint(f'{server}/{hashed(served, "bad")}')
    send_head = SimpleHTTPRequestHandler.send_head

    def cut(handler):
        file = send_head(handler)
        file.seek(10)
        return file

    monkeypatch.setattr(SimpleHTTPRequestHandler, 'send_head', cut)
    with pytest.raises(FileNotFoundError, match=r'the server has sent \d+ of \d+ bytes|IncompleteRead'):
        read_checkpoint(f'{server}/{hashed(served, "cls")}')
    monkeypatch.undo()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(downloads, 'MOST', 100)
    with pytest.raises(FileNotFoundError, match='and there is room for 100'):
        read_checkpoint(f'{server}/cls.pth')
    assert not [path for folder in ('cache', 'torch') for path in (tmp_path / folder).rglob('*') if path.is_file()]


def test_names_in_tables(server, monkeypatch, tmp_path):
    tables = 'mmengine.runner.checkpoint.get_mmcls_models', 'mmengine.runner.checkpoint.get_torchvision_models'
    for table in tables:
        monkeypatch.setattr(table, lambda: dict(net=f'{server}/{hashed(tmp_path / "served", "cls")}'))
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
        ('train.py', [TINY, '--resume', 'served/bad.pth']),
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
