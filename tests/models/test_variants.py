"""Backbones by name and from files that say what they hold: a few lines, no config."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file

import coma_mm
from coma_mm.models import ARCHITECTURES, DyViT

WINDOWS = ([[2, 8]], [[4]], None, None)


def save(path, state=None, **settings):
    torch.manual_seed(0)
    model = DyViT(**settings)
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT', compile=True, **settings)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model.eval()


def test_names():
    assert coma_mm.list_archs() == ['pico', 'tiny', 'small', 'base', 'large']
    assert 'load_backbone' in dir(coma_mm) and coma_mm.DyViT is DyViT
    with torch.device('meta'):
        for arch in coma_mm.list_archs():
            model = getattr(coma_mm, f'dyvit_{arch}')(out_indices=(0, 3), in_channels=1)
            assert model.settings['arch'] == ARCHITECTURES[arch] and len(model.out_channels) == 2


def test_a_named_one_takes_weights(tmp_path):
    model = save(tmp_path / 'some.pth', arch='pico')
    assert torch.equal(
        coma_mm.dyvit_pico(pretrained=str(tmp_path / 'some.pth')).patch_embed.weight, model.patch_embed.weight
    )


def test_settings_come_from_the_file(tmp_path):
    model = save(tmp_path / 'some.pth', arch='pico', patch_size=2, windows=WINDOWS, img_size=64, in_channels=4)
    images = torch.randn(2, 4, 64, 80)
    with torch.no_grad():
        loaded = coma_mm.load_backbone(tmp_path / 'some.pth')
        assert not loaded.training and torch.equal(loaded(images)[0], model(images)[0])
        assert loaded.settings == model.settings
        maps = coma_mm.load_backbone(tmp_path / 'some.pth', out_indices=(1, 3))(images)
        assert [image_map.shape[1] for image_map in maps] == [64, 256] and torch.equal(maps[1], model(images)[0])


def test_a_folder_stands_for_the_weights_in_it(tmp_path):
    model = DyViT('pico', img_size=32, patch_size=1)
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT', **model.settings)))
    with pytest.raises(FileNotFoundError, match='has no backbone.safetensors and no model.safetensors: name a file'):
        coma_mm.load_backbone(tmp_path)
    save_file(model.state_dict(), tmp_path / 'backbone.safetensors', meta)
    assert torch.equal(coma_mm.load_backbone(tmp_path).patch_embed.weight, model.patch_embed.weight)


@pytest.mark.parametrize(
    ('meta', 'options', 'error'),
    [
        ({}, {}, 'does not say which backbone it holds; build it yourself'),
        (dict(backbone='{"type": "mmpretrain.ResNet", "depth": 18}'), {}, 'holds a mmpretrain.ResNet, not a DyViT'),
        (dict(backbone='{"type": "os.system", "command": "mkdir ran"}'), {}, 'holds a os.system, not a DyViT'),
        (dict(backbone='{"type": "DyViT", "arch": "pico", "patch": 3}'), {}, 'does not take .*patch.*another version'),
        (dict(backbone='{"type": "DyViT", "arch": "pico"}'), dict(size=3), 'does not take .*size'),
        (dict(backbone='{"type": "DyViT", "arch": "pico"}'), dict(patch_size=2), 'patch_size is 4 in .* and 2 here'),
    ],
)
def test_what_cannot_be_built(tmp_path, meta, options, error):
    torch.save(dict(state_dict=DyViT('pico').state_dict(), meta=meta), tmp_path / 'some.pth')
    with pytest.raises(ValueError, match=error):
        coma_mm.load_backbone(tmp_path / 'some.pth', **options)
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        coma_mm.load_backbone(tmp_path / 'none.pth')


class Hub(BaseHTTPRequestHandler):
    """The hub's part on this machine, for huggingface_hub as it is: one file of one repository."""

    content, asked = b'', []

    def do_HEAD(self):
        self.asked.append(self.path)
        found = self.path == '/user/name/resolve/main/model.safetensors'
        self.send_response(200 if found else 404)
        if found:
            self.send_header('ETag', f'"{64 * "a"}"')
            self.send_header('X-Repo-Commit', 40 * 'b')
            self.send_header('Content-Length', str(len(self.content)))
        else:
            self.send_header('X-Error-Code', 'RepoNotFound')
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path.startswith('/user/name/'):
            self.wfile.write(self.content)

    def log_message(self, *args):
        pass


def test_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save(tmp_path / 'some.pth', arch='pico', patch_size=2)
    (tmp_path / 'hub').mkdir()
    meta = dict(backbone=json.dumps(dict(type='DyViT', arch='pico', patch_size=2)))
    save_file(model.state_dict(), 'hub/model.safetensors', meta)
    monkeypatch.setattr(Hub, 'content', (tmp_path / 'hub/model.safetensors').read_bytes())
    for name, value in dict(HF_HUB_CACHE=str(tmp_path / 'home'), HF_HUB_DISABLE_XET=True).items():
        monkeypatch.setattr(f'huggingface_hub.constants.{name}', value)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_port}')  # huggingface_hub is imported already

    def refuse(name):
        with pytest.raises(FileNotFoundError) as error:
            coma_mm.load_backbone(f'hf://{name}')
        said = str(error.value)
        assert said.startswith(f'there is no checkpoint hf://{name} with a file model.safetensors') and '\n' not in said

    assert torch.equal(coma_mm.load_backbone('hf://user/name').patch_embed.weight, model.patch_embed.weight)
    refuse('user/other')
    refuse('user/name@v2')
    server.shutdown()
    server.server_close()
    before = len(Hub.asked)
    assert coma_mm.load_backbone('hf://user/name').patch_size == 2  # which is kept
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)  # or it tries again for half a minute
    refuse('user/new')
    assert len(Hub.asked) == before > 0
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ValueError, match='reading hf://user/name takes huggingface_hub: pip install huggingface_hub'):
        coma_mm.load_backbone('hf://user/name')
    assert coma_mm.load_backbone('hf://hub').patch_size == coma_mm.load_backbone('hub').patch_size == 2
