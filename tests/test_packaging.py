"""Deliveries of `pip install`: the wheel's contents and requirements; what stands beside the package on its version."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from coma_mm import __version__

ROOT = Path(__file__).parent.parent
DISTRIBUTION = re.compile(r'(onedl-)?(mmengine|mmcv(-lite)?|mmpretrain|mmdet|mmdetection|mmsegmentation)\b')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, built off line; a stale build folder lies in the copy."""
    folder = tmp_path_factory.mktemp('packaging')
    source = folder / 'source'
    unwanted = shutil.ignore_patterns('.*', '__pycache__', 'build', 'data', 'dist', 'work_dirs', '*.egg-info')
    shutil.copytree(ROOT, source, ignore=unwanted)
    stale = source / 'build' / 'lib' / 'coma_mm'
    stale.mkdir(parents=True)
    (stale / 'deleted.py').touch()
    before = {path for path in source.rglob('*')}

    command = [sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps', '--no-index']
    done = subprocess.run([*command, '-w', folder, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    left = {path.relative_to(source).parts[0] for path in set(source.rglob('*')) - before}
    assert left <= {'build', 'coma_mm.egg-info'}, 'building a wheel left something in the tree that git does not ignore'
    (path,) = folder.glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        yield archive


def files_of(folder, pattern):
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern)}


def test_wheel_has_modules_configs_and_tools(wheel):
    names = set(wheel.namelist())
    expected = {name for name in files_of('coma_mm', '*.py') if '/.mim/' not in name}
    shipped = files_of('configs', '*.py') | files_of('tools', '*.py') | files_of('tools', '*.sh')
    expected |= {
        f'coma_mm/.mim/{name}'
        for name in shipped
        if not name.startswith(('tools/env/', 'tools/lab/', 'configs/studies/'))
    }
    assert expected <= names and 'coma_mm/py.typed' in names
    assert any(name.startswith('coma_mm/.mim/configs/pretrain/') for name in names)


def test_wheel_has_nothing_else(wheel):
    names = {name for name in wheel.namelist() if '.dist-info/' not in name}
    assert all(name.startswith('coma_mm/') for name in names)
    unwanted = re.compile(r'/tests?/|/test_|__pycache__|/\.mim/(tools/(env|lab)|configs/studies)/|deleted\.py')
    assert not [name for name in names if unwanted.search(name)]


def test_configs_of_the_wheel_load(wheel, tmp_path):
    names = [name for name in wheel.namelist() if name.startswith('coma_mm/.mim/configs/')]
    wheel.extractall(tmp_path, names)
    recipes = [name for name in names if name.endswith('.py') and '/_base_/' not in name]
    assert len(recipes) > 20
    for name in recipes:
        Config.fromfile(tmp_path / name)


def test_wheel_requires_neither_distribution_of_openmmlab(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith('.dist-info/METADATA'))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata['Version'] == __version__
    extras = {'all', 'hub', 'log', 'onedl', 'onnx', 'openmmlab', 'timm'}
    assert set(metadata.get_all('Provides-Extra')) == extras
    for requirement in metadata.get_all('Requires-Dist'):
        if DISTRIBUTION.match(requirement):
            assert re.search(r'extra == .(onedl|openmmlab).$', requirement), requirement


def test_changelog_is_that_of_this_version():
    title, *versions = re.split(r'^## ', (ROOT / 'CHANGELOG.md').read_text(), flags=re.MULTILINE)
    assert title.startswith('# Changelog\n')
    assert versions[0].startswith(f'[{__version__}] - ')
    for version in versions:
        head, *kinds = re.split(r'^### ', version, flags=re.MULTILINE)
        assert re.fullmatch(r'\[\d+\.\d+\.\d+\] - (unreleased|\d{4}-\d\d-\d\d)\n+', head)
        for kind in kinds:
            assert re.match(r'(Added|Changed|Deprecated|Removed|Fixed|Security)\n\n- ', kind)


def test_citation_is_that_of_this_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0' and citation['version'] == __version__
    (paper,) = citation['references']
    assert paper['url'] == 'https://arxiv.org/abs/2511.05929'
    for work in (citation, paper):  # what the format's schema requires
        assert work['title'] and work['type'] and all(author['name'] for author in work['authors'])
    assert citation['message']
