"""Whatever lies where a command writes: only what it can prove to have written is replaced or deleted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import imwrite
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.logging import MMLogger
from PIL import Image
from processes import TINY
from safetensors.torch import save_file

from coma_mm.checkpoints import reading
from coma_mm.checkpoints.finding import find_checkpoints, find_config
from coma_mm.checkpoints.writing import WholeFileBackend, allow_replacing, announce_checkpoint, write_files_whole
from coma_mm.cli import main
from coma_mm.cli.outputs import check_folder, check_output, find_files, find_roots
from coma_mm.datasets import ClassFolder
from coma_mm.datasets.finding import find_images, find_named_images
from coma_mm.engine.runner.earlier_results import find_results_to_replace
from coma_mm.engine.runner.run_folder import free_name, resolve_run
from coma_mm.pretraining import HANDED_OVER
from coma_mm.running import check_places, continue_run
from coma_mm.utils import manifest
from coma_mm.utils.files import atomic_write, whole_folder, write_whole
from coma_mm.utils.folder_lock import forget_start, lock_work_dir, require_unlocked
from coma_mm.visualization import report
from coma_mm.visualization.run_files import find_pictures, forget_pictures

PRECIOUS = b'years of work'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder with a precious file beside it, which is there at the end as it was."""
    (tmp_path / 'precious.txt').write_bytes(PRECIOUS)
    (tmp_path / 'run').mkdir()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert (tmp_path / 'precious.txt').read_bytes() == PRECIOUS


@pytest.fixture
def refused(monkeypatch, capfd):
    """Call a command that refuses its arguments; return its last line."""

    def call(*args):
        MMLogger._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', ['coma-mm', *args])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code
        return capfd.readouterr().err.splitlines()[-1]

    return call


def content(folder):
    """Return what a folder holds: the bytes of files, and where links lead to."""
    found = {path: path for path in Path(folder).rglob('*') if path.is_symlink() or path.is_file()}
    return {path: os.readlink(path) if path.is_symlink() else path.read_bytes() for path in found}


def image(path, value=0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 40), (value, 0, 0)).save(path)


def checkpoint(path, **more):
    torch.save(dict(state_dict={}, meta=dict(epoch=1, iter=3), optimizer={}, **more), path)


def own(name, kind='checkpoint', data=b'PK of ours', folder='run'):
    with manifest.own_file(folder, name, kind) as unfinished:
        unfinished.write_bytes(data)


# ---- what lies where a run writes ----

NAMES = ('config.py', 'last.pth', 'backbone.safetensors', 'report.html', 'reconstruction.png', 'last_checkpoint')
CLAIMED = (
    *NAMES,
    'manifest.json',
    'pictures',
    'pictures/run.json',
    'pictures/features_5.jpg',
    'pictures/comparison_4.jpg',
    'iter_7.pth',
)
FORMS = {
    'file': lambda path: path.write_bytes(PRECIOUS),
    'link': lambda path: path.symlink_to(Path('precious.txt').absolute()),
    'dangling': lambda path: path.symlink_to(Path('nothing').absolute()),
    'folder': lambda path: (path.mkdir(), (path / 'mine').write_bytes(PRECIOUS)),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', CLAIMED)
def test_a_file_in_the_way_of_a_run_is_refused_before_it_begins(name, form):
    if (name, form) == ('pictures', 'folder'):
        return
    path = Path('run', name)
    path.parent.mkdir(exist_ok=True)
    FORMS[form](path)
    before = content('run')
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=f'run/{name} .*choose another --out'):
            check_places('data', 'run', {}, False, overwrite, HANDED_OVER)
    assert content('run') == before


@pytest.mark.parametrize(
    ('template', 'names'),
    [('ckpt-{}.pth', ['ckpt-3.pth']), ('latest.pth', ['latest.pth']), ('epoch_{}.pth', ['epoch_1.pth'])],
)
def test_checkpoints_of_any_template(template, names):
    hooks = dict(checkpoint=dict(filename_tmpl=template, save_best='loss'))
    cfg = Config(dict(work_dir='run', default_hooks=hooks))
    for name in (*names, f'best_loss_{names[0]}', 'epoch_2_iter_7.pth'):
        Path('run', name).write_bytes(PRECIOUS)
        with pytest.raises(ValueError, match=f'run/{name} was not written by a run'):
            find_results_to_replace(cfg, True)
        Path('run', name).unlink()
        own(name, 'best checkpoint' if name.startswith('best') else 'checkpoint')
    assert {path.name for path in find_checkpoints(Path('run'))} == {*names, 'epoch_2_iter_7.pth'}
    assert len(find_results_to_replace(cfg, True).checkpoints) == 3


def test_overwriting_an_older_run_takes_its_checkpoints_alone():
    for name in ('epoch_1.pth', 'iter_9.pth', 'best_loss_epoch_1.pth'):
        checkpoint(Path('run', name))
    for name in ('resnet_50.pth', 'best_model.pth', 'dyvit_b_20240101.pth'):
        torch.save(dict(weight=torch.zeros(2)), Path('run', name))
    torch.save(dict(weight=torch.zeros(2)), 'run/best_mine_epoch_3.pth')
    kept = {path: data for path, data in content('run').items() if path.name not in ('epoch_1.pth', 'iter_9.pth')}
    kept.pop(Path('run/best_loss_epoch_1.pth'))
    assert [path.name for path in find_checkpoints(Path('run'))][-1] in ('epoch_1.pth', 'iter_9.pth')
    hook = find_results_to_replace(Config(dict(work_dir='run')), True)
    hook.before_train(None)
    for path in hook.checkpoints:
        manifest.remove_own(path.parent, path.name)
    after = content('run')
    after.pop(Path('run/manifest.json'))
    assert after == kept


LOCKS = {
    'hard link': lambda path: os.link('precious.txt', path),
    'file': lambda path: path.write_bytes(PRECIOUS),
    'empty file': lambda path: path.touch(),
}
NO_LOCKS = {
    'link': lambda path: path.symlink_to('../precious.txt'),
    'dangling link': lambda path: path.symlink_to('nothing'),
    'folder': lambda path: path.mkdir(),
    'pipe': lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize('form', [*LOCKS, *NO_LOCKS])
@pytest.mark.parametrize('ask', [lock_work_dir, require_unlocked])
def test_what_has_the_name_of_the_lock_stays(form, ask):
    (LOCKS | NO_LOCKS)[form](Path('run/.lock'))
    before = manifest._signature(os.lstat('run/.lock')), content('.')
    if form in LOCKS:
        ask('run', '--out')
    else:
        with pytest.raises(ValueError, match=r'run/.lock is no file that can be locked: move it away.*another --out'):
            ask('run', '--out')
    forget_start(None)
    assert (manifest._signature(os.lstat('run/.lock')), content('.')) == before


def test_a_command_that_fails_leaves_a_lock_of_the_users(monkeypatch, capfd):
    Path('run/.lock').write_bytes(PRECIOUS)
    before = content('.')
    monkeypatch.setattr(sys, 'argv', ['coma-mm', 'train', str(TINY), '--work-dir', 'run', '--cfg-options', 'model.a=1'])
    with pytest.raises(SystemExit):
        main()
    assert "no argument 'a'" in capfd.readouterr().err and content('.') == before


@pytest.mark.parametrize('begun', [False, True])
def test_a_run_that_did_not_begin_leaves_nothing_and_takes_nothing(begun):
    Path('there').mkdir()
    Path('there/mine.log').write_bytes(PRECIOUS)
    for folder in ('new/run', 'there', 'run'):
        lock_work_dir(folder).close()
        log = Path(folder, '2026', '2026.log').absolute()
        (log.parent / 'vis_data').mkdir(parents=True)
        for path in (log, log.parent / 'vis_data' / 'config.py'):
            path.write_text('ours')
        if begun:
            own('config.py', 'config', folder=folder)
        before = sorted(Path(folder).rglob('*'))
        forget_start(log)
        if begun:
            assert sorted(Path(folder).rglob('*')) == before
    if not begun:
        assert not Path('new').exists() and os.listdir('there') == ['mine.log'] and os.listdir('run') == []


# ---- what a run removes and replaces ----

ABOVE = '../precious.txt', '..//precious.txt', 'x/../../precious.txt', 'linked/precious.txt'


def test_a_forged_manifest_leads_nowhere(place):
    os.symlink(place, 'run/linked')
    os.symlink(place / 'precious.txt', 'run/link')
    entry = dict(kind='checkpoint', **manifest.fingerprint(place / 'precious.txt'))
    names = [*ABOVE, 'link', './a', '', 'a\0b', str(place / 'precious.txt'), 'manifest.json']
    forged = dict(kind=manifest.KIND, mark='*', files={name: entry for name in names})
    Path('run/manifest.json').write_text(json.dumps(forged))
    Path('run/.a.1.pth').write_bytes(PRECIOUS)
    before = content('.')
    for name in names:
        assert not manifest.is_own('run', name) and not manifest.remove_own('run', name)
    manifest.remove_unfinished('run')
    assert find_checkpoints(Path('run')) == [] and content('.') == before


def test_a_damaged_manifest_proves_nothing():
    Path('run/a').write_bytes(PRECIOUS)
    entries = 1, dict(kind='x', bytes='1', sha256='a'), dict(kind='x', bytes=1, sha256=5)
    forged = [json.dumps(dict(kind=manifest.KIND, files=dict(a=entry))) for entry in entries]
    for text in ('', '[]', 'null', '{"files": 5}', '[' * 10000, *forged):
        Path('run/manifest.json').write_text(text)
        assert manifest.read_manifest('run') == {} and not manifest.remove_own('run', 'a'), text
    assert Path('run/a').read_bytes() == PRECIOUS


CHANGES = {
    'other content': lambda path: path.write_bytes(PRECIOUS),
    'same size': lambda path: path.write_bytes(b'KP of ours'),
    'a link': lambda path: (path.unlink(), path.symlink_to(Path('precious.txt').absolute())),
    'a link to the same': lambda path: (path.rename('run/other'), path.symlink_to('other')),
    'a folder': lambda path: (path.unlink(), path.mkdir(), (path / 'x').write_bytes(PRECIOUS)),
    'more': lambda path: path.write_bytes(path.read_bytes() + b'!'),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('name', ['epoch_3.pth', 'latest.pth', 'pictures/features_1.jpg', 'a\nb.pth'])
def test_what_was_changed_since_is_no_longer_ours(name, change):
    own(name)
    path = Path('run', name)
    CHANGES[change](path)
    before = content('run')
    assert not manifest.remove_own('run', name) and content('run') == before
    own(name, data=b'PK new')  # a run goes on: what was there is moved, not lost
    assert path.read_bytes() == b'PK new' and manifest.is_own('run', name)
    kept = content('run')
    for old, data in before.items():
        if old.name != 'manifest.json':
            assert data in kept.values()


def test_a_kill_between_the_entry_and_the_name_loses_nothing():
    own('latest.pth')

    def replace(path, to):
        if Path(to).name == 'latest.pth':
            raise KeyboardInterrupt
        return os.replace(path, to)

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, 'replace', replace)
        own('latest.pth', data=b'PK newer')
    assert Path('run/latest.pth').read_bytes() == b'PK of ours' and manifest.is_own('run', 'latest.pth')
    own('latest.pth', data=b'PK newest')
    assert sorted(os.listdir('run')) == ['latest.pth', 'manifest.json']


def test_each_of_two_writers_has_a_name_of_its_own():
    own('report.html', 'report')
    with manifest.own_file('run', 'report.html', 'report') as first:
        first.write_bytes(b'half')
        own('report.html', 'report', b'of the second')
        manifest.remove_unfinished('run')  # as a run does that begins meanwhile
        first.write_bytes(b'half and half')
        assert Path('run/report.html').read_bytes() == b'of the second' and manifest.is_own('run', 'report.html')
    assert Path('run/report.html').read_bytes() == b'half and half' and manifest.is_own('run', 'report.html')
    assert sorted(os.listdir('run')) == ['manifest.json', 'report.html']


def test_processes_that_write_one_name_agree_on_it():
    code = """
import sys
from coma_mm.utils import manifest
for i in range(30):
    manifest.write_own('run', 'pictures/run.json', 'facts', sys.argv[1] * (i + 1))
"""
    env = dict(os.environ, PYTHONPATH=str(Path(manifest.__file__).parents[2]))
    for process in [subprocess.Popen([sys.executable, '-c', code, letter], env=env) for letter in 'abc']:
        assert process.wait() == 0
    assert manifest.is_own('run', 'pictures/run.json') and Path('run/pictures/run.json').stat().st_size == 30
    assert sorted(path.name for path in Path('run').rglob('*')) == ['manifest.json', 'pictures', 'run.json']


@pytest.mark.parametrize('inside', ['run', 'run/pictures'])
@pytest.mark.parametrize(
    ('name', 'goes'),
    [
        ('.a.{mark}.pth', True),  # of an older version
        ('.a.{mark}', True),
        ('.a.{mark}123456789.pth', True),
        ('.a b.c.{mark}000000001.tar.gz', False),
        ('.a.b.{mark}000000001.gz', True),
        ('.a.{mark}000000001', True),
        ('.a\nb.{mark}000000001.pth', True),
        ('a.{mark}.pth', False),
        ('.{mark}.pth', False),
        ('.a.1{mark}.pth', False),
        ('.a.{mark}x.pth', False),
        ('.a.123456789012345.pth', False),
        ('.a.7.pth', False),
    ],
)
def test_what_a_killed_run_was_writing_is_known_by_its_number(inside, name, goes):
    own('pictures/a_1.jpg', 'picture')
    name = name.format(mark=json.loads(Path('run/manifest.json').read_text())['mark'])
    Path(inside, name).write_bytes(b'half')
    os.mkdir('other')
    Path('other', name).write_bytes(PRECIOUS)
    os.symlink('../other', 'run/linked')
    manifest.remove_unfinished('run')
    assert Path(inside, name).exists() != goes and Path('other', name).exists()
    Path(inside, name).unlink(missing_ok=True)
    Path(inside, name).symlink_to(Path('other', name).absolute())
    manifest.remove_unfinished('run')
    assert Path(inside, name).is_symlink() and Path('other', name).exists()


def test_runs_that_were_moved_copied_or_shared_keep_their_proof():
    own('epoch_1.pth')
    shutil.copytree('run', 'copy')
    os.rename('run', 'moved')
    for folder in ('copy', 'moved'):
        assert [path.name for path in find_checkpoints(Path(folder))] == ['epoch_1.pth']
        assert manifest.remove_own(folder, 'epoch_1.pth')
    os.makedirs('run')
    own('epoch_1.pth')
    os.link('run/epoch_1.pth', 'mine.pth')
    assert manifest.remove_own('run', 'epoch_1.pth') and Path('mine.pth').read_bytes() == b'PK of ours'


def test_writing_follows_no_link_and_takes_no_name(place):
    Path(f'run/.a.{os.getpid()}.txt').symlink_to(place / 'precious.txt')
    with atomic_write('run/a.txt') as unfinished:
        unfinished.write_text('ours')
    assert Path(f'run/.a.{os.getpid()}.txt').is_symlink() and Path('run/a.txt').read_text() == 'ours'
    os.symlink(place, 'run/pictures')
    with pytest.raises(ValueError, match='run/pictures is a link'):
        own('pictures/precious.txt')


def test_a_backend_notes_checkpoints_and_nothing_else():
    backend = WholeFileBackend()
    backend.put(b'PK other', 'run/other.pth')
    assert not Path('run/manifest.json').exists()
    announce_checkpoint(dict(meta=dict(epoch=1, iter=2, cfg='x')))
    backend.put(b'PK', 'run/any-name')
    entry = manifest.read_manifest('run')['any-name']
    assert entry['kind'] == 'checkpoint' and (entry['epoch'], entry['iter']) == (1, 2)
    backend.put(b'PK after it', 'run/other.pth')
    assert list(manifest.read_manifest('run')) == ['any-name']


OUTPUTS = [
    lambda path: dump([1], path),
    lambda path: DumpResults(str(path)).compute_metrics([1]),
    lambda path: WholeFileBackend().put_text('ours', path),
    lambda path: imwrite(np.zeros((4, 4, 3), np.uint8), str(path)),
]


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('write', OUTPUTS)
def test_what_a_config_has_written_replaces_nothing_of_others(write, form, schemes):
    write_files_whole()
    path = Path('notes.pkl' if write is not OUTPUTS[-1] else 'notes.png')
    FORMS[form](path)
    before = content('.')
    for _ in range(2):  # what this process has written is replaced
        write(path)
    kept = path.with_name(f'{path.name}.kept')
    assert path.is_file() and not path.is_symlink() and not Path(f'{kept}2').exists() and not Path('nothing').exists()
    moved = {Path(str(old).replace(path.name, kept.name)): data for old, data in before.items()}
    assert {**moved, path: path.read_bytes()} == content('.')
    path.write_bytes(PRECIOUS)  # of the user, meanwhile
    write(path)
    assert Path(f'{kept}2').read_bytes() == PRECIOUS
    write_to = Path('shown', path.name)
    write_to.parent.mkdir()
    write_to.write_bytes(b'of an earlier test')
    allow_replacing('shown')
    write(write_to)
    assert os.listdir('shown') == [path.name]


FOLDERS = [
    ('test', 'test_evaluator', 'output_dir', 'full', [], '--force'),
    ('test', 'test_evaluator', 'output_dir', 'masks', ['--force'], None),
    ('train', 'val_evaluator', 'output_dir', 'full', [], '--overwrite'),
    ('train', 'val_evaluator', 'csv_dir', 'masks', ['--overwrite'], None),
]


@pytest.mark.parametrize(('command', 'part', 'name', 'folder', 'options', 'remedy'), FOLDERS)
def test_evaluators_write_into_no_full_folder(command, part, name, folder, options, remedy, refused):
    for path in ('full/a.png', 'masks/a.png', 'im/a.png'):
        image(path)
    checkpoint('a.pth')
    cfg = Config.fromfile(TINY)
    loader = dict(dataset=dict(type='CityscapesDataset', data_root='', data_prefix=dict(img_path='im', seg='masks')))
    cfg.update(
        {f'{part[:-10]}_dataloader': loader, f'{part[:-10]}_cfg': {}, part: [{'type': 'IoUMetric', name: folder}]}
    )
    cfg.dump('my.py')
    before = content('.')
    line = refused(command, 'my.py', *(['a.pth'] if command == 'test' else []), *options)
    assert line.startswith(f'error: {part}.0.{name}={folder} ') and f'--cfg-options {part}.0.{name}=FOLDER' in line
    assert (remedy or 'FOLDER') in line and content('.') == before


def test_photos_are_no_pictures_of_a_run():
    for number in range(1010, 1014):
        image(f'run/pictures/IMG_{number}.jpg', number % 255)
    before = content('run')
    forget_pictures('run', 0)
    assert content('run') == before
    own('pictures/features_5.jpg', 'picture')
    own('pictures/features_1.jpg', 'picture')
    forget_pictures('run', 2)
    assert {step for step, _ in find_pictures('run')['features']} == {1} and before.items() <= content('run').items()


# ---- configs and data ----


def test_a_hand_written_config_keeps_its_name():
    Path('run/my.py').write_text('mine = 1')
    assert free_name(Path('run'), 'my.py') == 'my_of_run.py'
    own('my_of_run.py', 'config', b'ours = 1')
    assert free_name(Path('run'), 'my.py') == free_name(Path('run'), 'my_of_run.py') == 'my_of_run.py'
    assert find_config(Path('run')) == Path('run/my_of_run.py')
    own('other.py', 'config', b'ours = 2')
    assert find_config(Path('run')) == Path('run/other.py')
    Path('run/other.py').write_text('import os')
    assert find_config(Path('run')) is None


@pytest.mark.parametrize(
    ('name', 'text', 'found'),
    [('config.py', 'model = dict()\nwork_dir = "x"\n', False), ('any.py', 'dumped = 1\n', True)],
)
def test_the_config_of_a_run_of_other_tools_is_known_by_its_content(name, text, found):
    Path('run/1/vis_data').mkdir(parents=True)
    Path('run/1/vis_data/config.py').write_text('dumped = 1\n')
    Path('run', name).write_text(text)
    assert (find_config(Path('run')) is not None) == found
    Path('run/backbone.safetensors').write_bytes(b'')
    os.mkdir('images.py')
    config, _, images = resolve_run(['run/backbone.safetensors', 'images.py'], 'give')
    assert (config is not None) == found and images == ['images.py']


def test_a_run_is_never_data():
    image('data/a.png')
    image('data/run/pictures/features_1.jpg')
    own('config.py', 'config', folder='data/run')
    Path('data/manifest.json').write_text('{"images": ["a.png"]}')  # of the data itself
    assert [os.path.basename(path) for path in find_images('data')] == ['a.png']


def test_a_folder_that_may_not_be_read_is_named(monkeypatch):
    image('data/a.png')
    image('data/inner/b.png')
    scan, closed = os.scandir, ['data/inner']

    def scandir(path):
        if str(path) in closed:
            raise PermissionError(13, 'Permission denied', path)
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    assert find_images('data') == ['data/a.png']
    closed.append('data')
    with pytest.raises(ValueError, match='data cannot be read: Permission denied'):
        find_images('data')


@pytest.mark.parametrize('error', [MemoryError, PermissionError])
def test_what_the_system_refuses_is_no_damage(error, monkeypatch):
    checkpoint('a.pth')
    monkeypatch.setattr(reading, 'read_torch_file', lambda *args: (_ for _ in ()).throw(error()))
    with pytest.raises(error):
        reading.read_checkpoint('a.pth')


@pytest.mark.parametrize(
    ('data', 'out', 'words'),
    [
        ('pictures', '.', 'pictures has the images'),
        ('pictures/inside', '.', 'has the images'),
        ('pictures', 'pictures', 'choose another --out, such as --out pictures/run'),
        ('linked', 'pictures', 'has the images'),
        (None, 'run', 'give data'),
    ],
)
def test_places_that_cannot_be(data, out, words):
    image('pictures/inside/IMG_1010.jpg')
    os.symlink('pictures', 'linked')
    with pytest.raises(ValueError, match=words):
        check_places(data, out, {}, False, True, HANDED_OVER)


LABELS = [
    ('photos', 'd', dict(labels='d')),
    ('photos', 'd/train', dict(labels='d')),
    ('photos', 'd/val', dict(labels='linked')),
    ('d', 'd/train', {}),
    ('d', 'more', dict(val='more')),
    ('d', 'more', dict(val='~/more')),
]


@pytest.mark.parametrize(('data', 'out', 'settings'), LABELS)
def test_a_run_writes_into_no_folder_of_labelled_images(data, out, settings, place, monkeypatch):
    monkeypatch.setenv('HOME', str(place))
    for folder in ('photos', 'd/train/cat', 'd/val/cat', 'more/cat'):
        image(f'{folder}/a.png')
    os.symlink('d', 'linked')
    before = content('.')
    with pytest.raises(ValueError, match=f'has the images, .* into {out}: choose another --out, such as --out {out}/r'):
        check_places(data, out, settings, False, True, HANDED_OVER)
    assert content('.') == before
    assert check_places(data, f'{out}/run', settings, False, True, HANDED_OVER)[0] == place / out / 'run'


READ = [
    ('train', 'im', {'train_dataloader.dataset.data_root': 'im'}),
    ('train', 'im', {'train_dataloader.dataset': dict(type='CocoDataset', data_root='', data_prefix=dict(img='im/'))}),
    ('train', 'im/val', {'test_cfg': dict(bank=dict(dataset=dict(data_root=['list.txt', 'im'])))}),
    ('train', 'im', {'custom_hooks': [dict(type='coma_mm.QualityHook', labels='im')]}),
    ('test', 'im', {'test_dataloader.dataset.data_root': 'im'}),
    ('test', 'im/train', {'test_dataloader.dataset': dict(data_root='im', data_prefix='train')}),
]


@pytest.mark.parametrize(('command', 'folder', 'options'), READ)
def test_a_work_dir_is_no_folder_of_images(command, folder, options, refused):
    for name in ('im/train/a', 'im/val/a', 'im/b'):
        image(f'{name}.png')
    checkpoint('a.pth')
    cfg = Config.fromfile(TINY)
    cfg.test_dataloader = cfg.train_dataloader
    cfg.merge_from_dict(options)
    cfg.dump('my.py')
    before = content('.')
    line = refused(command, 'my.py', *(['a.pth'] if command == 'test' else []), '--work-dir', folder)
    assert f'into {folder}: choose another --work-dir, such as --work-dir {folder}/run' in line
    assert content('.') == before


LOCAL = dict(type='LocalVisBackend')
ELSEWHERE = [
    ('save_dir', dict(type='Visualizer', save_dir='my')),
    ('vis_backends.0.save_dir', dict(type='Visualizer', vis_backends=[LOCAL | dict(save_dir='my')])),
    ('vis_backends.1.save_dir', dict(vis_backends=[LOCAL, dict(type='mmengine.LocalVisBackend', save_dir='/my')])),
    ('vis_backends.save_dir', dict(type='Visualizer', vis_backends=LOCAL | dict(save_dir='my'))),
    ('vis_backends.0.config_save_file', dict(vis_backends=[LOCAL | dict(config_save_file='../../../my.py')])),
    ('vis_backends.0.scalar_save_file', dict(vis_backends=[LOCAL | dict(scalar_save_file='/my.json')])),
    ('vis_backends.0.img_save_dir', dict(vis_backends=[LOCAL | dict(img_save_dir='a/../../my')])),
]


@pytest.mark.parametrize('command', ['train', 'test'])
@pytest.mark.parametrize(('setting', 'visualizer'), ELSEWHERE)
def test_logs_go_into_the_folder_of_the_run(setting, visualizer, command, refused):
    checkpoint('a.pth')
    cfg = Config.fromfile(TINY)
    cfg.update(test_dataloader=cfg.train_dataloader, visualizer=visualizer)
    cfg.dump('my.py')
    before = content('.')
    line = refused(command, 'my.py', *(['a.pth'] if command == 'test' else []))
    assert line.startswith(f'error: visualizer.{setting}=') and "the run's folder" in line
    assert content('.') == before


def test_images_in_the_folder_of_a_run_are_named_not_missed():
    image('run/a.png')
    own('config.py', 'config')
    for find in (find_images, lambda name: ClassFolder(name, pipeline=[]), lambda name: find_named_images([name])):
        with pytest.raises(ValueError, match=r'run is the folder of a run \(manifest.json\): its images are not read'):
            find('run')


def test_paths_are_absolute_and_at_home(place, monkeypatch):
    monkeypatch.setenv('HOME', str(place))
    found = check_places(['~/data', 'list.txt'], '~/x', {}, False, False, HANDED_OVER)
    assert found == (place / 'x', [f'{place}/data', f'{place}/list.txt'])


@pytest.mark.parametrize('given', [dict(steps=50), dict(arch='tiny'), dict(steps=50, arch='tiny', seed=0, val=0.0)])
def test_what_is_not_obeyed_is_refused(given, monkeypatch, capfd):
    own('config.py', 'config')
    with pytest.raises(ValueError, match='leave --' + ', --'.join(given) + ' out'):
        check_places(None, 'run', given, True, False, HANDED_OVER)
    options = [text for name, value in given.items() for text in (f'--{name}', str(value))]
    monkeypatch.setattr(sys, 'argv', ['coma-mm', 'pretrain', '--out', 'run', '--resume', *options])
    with pytest.raises(SystemExit):
        main()
    printed = capfd.readouterr().err
    assert all(f'--{name}' in printed.splitlines()[-1] for name in given) and ' out' in printed


def test_an_edited_config_of_a_run_has_to_be_named():
    own('config.py', 'config')
    Path('run/config.py').write_text('mine')
    with pytest.raises(FileNotFoundError, match=r'coma-mm train run/config.py --work-dir run --resume'):
        continue_run(Path('run'))
    assert HANDED_OVER == ('last.pth', 'backbone.safetensors')


# ---- outputs ----


# Outputs that are refused though --force is given, and the inputs beside them; outputs that are refused without it.
ALWAYS = [
    *(('a.pth', 'a.pth'), ('hard.pth', 'a.pth'), ('soft.pth', 'a.pth'), ('run/epoch_6.pth', 'run')),
    *(('im/a.jpg', 'im'), ('im/sub/b.JPG', 'im'), ('also/a.jpg', 'im'), ('also/a.jpg', 'list.txt')),
    *(('im/a.jpg', 'im/a.jpg'), ('run/pictures/features_5.jpg', None), ('folder', None), ('pipe', None)),
    ('/dev/null', None),
]
UNFORCED = 'mine.png', 'link.png', 'old.npz', 'marked.npz', 'old.json', 'bare.safetensors'


def test_outputs_replace_no_input_and_nothing_unknown():
    image('mine.png')
    image('im/a.jpg')
    image('im/sub/b.JPG')
    os.symlink('im', 'also')
    os.symlink('precious.txt', 'link.png')
    checkpoint('a.pth')
    os.link('a.pth', 'hard.pth')
    os.symlink('a.pth', 'soft.pth')
    os.mkdir('folder')
    os.mkfifo('pipe')
    Path('list.txt').write_text('# mine\nim/a.jpg\n')
    own('epoch_6.pth')
    own('pictures/features_5.jpg', 'picture')
    np.savez('old.npz', a=1)
    Path('marked.npz').write_bytes(Path('old.npz').read_bytes() + b'coma_mm')
    Path('old.json').write_text('{}')
    save_file({'a': torch.zeros(1)}, 'bare.safetensors')
    refused = [(*row, force) for row in ALWAYS for force in (False, True)]
    for output, of, force in [*refused, *((name, None, False) for name in UNFORCED)]:
        with pytest.raises(ValueError, match='another file with --out'):
            check_output(output, '--out', [of] if of else [], force)
    for output in UNFORCED:
        check_output(output, '--out', [], True)


def test_outputs_of_before_are_replaced():
    from coma_mm.visualization.figures import ImageGrid

    for name in ('new.png', 'new.svg', 'new.pdf'):
        ImageGrid({'a': torch.rand(1, 3, 8, 8)}).finish(name)
        check_output(name, '--out', ['im'], False)
    torch.save(dict(meta=dict(config_sha256='1'), state_dict={}), 'new.pth')
    save_file({'a': torch.zeros(1)}, 'new.safetensors', dict(config_sha256='1'))
    own('report.html', 'report')
    for name in ('run/report.html', 'nothing.png'):
        check_output(name, '--out', [], False)
    for name in ('new.pth', 'new.safetensors'):  # which may have been changed since
        with pytest.raises(ValueError, match='replace it with --force'):
            check_output(name, '--out', [], False)


def fill(lend):
    with lend as unfinished:
        unfinished.write_bytes(b'ours')


# How commands write their outputs: embed, visualize, browse; compare, export; report; config; test.
WRITERS = {
    'any file': lambda path: fill(manifest.any_file(path)),
    'file of a kind': lambda path: fill(manifest.any_file(path, 'comparison')),
    'file of a run': lambda path: fill(manifest.own_file(path.parent, path.name, 'report')),
    'text': lambda path: write_whole(path, 'ours'),
    'backend': lambda path: WholeFileBackend().put(b'ours', path),
}


@pytest.mark.parametrize('in_run', [False, True])
@pytest.mark.parametrize('there', [False, True])
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('writer', WRITERS)
def test_what_takes_the_name_of_an_output_after_the_check_is_kept(writer, form, there, in_run):
    path = Path('run/page.html')
    if in_run:
        own('config.py', 'config')
    if there:
        path.write_bytes(b'forced')
    check_output('run/../run/page.html' if there else path, '--out', [], True)
    path.unlink(missing_ok=True)
    FORMS[form](path)
    before = content('run')
    WRITERS[writer](path)
    after = content('run')
    for old, data in before.items():
        if old.name != 'manifest.json':
            assert after.pop(Path(str(old).replace('page.html', 'page.html.kept', 1))) == data
    assert after.pop(path) == b'ours' and {old.name for old in after} <= {'manifest.json'}
    WRITERS[writer](path)  # once more, by the same process: it is its own
    assert path.read_bytes() == b'ours' and not Path('run/page.html.kept2').exists()


@pytest.mark.parametrize('in_run', [False, True])
@pytest.mark.parametrize('writer', ['any file', 'text', 'backend'])
def test_what_was_checked_is_replaced(writer, in_run):
    path = Path('run/page.html')
    own(path.name, 'report') if in_run else path.write_bytes(b'forced')
    check_output(path, '--out', [], True)
    if in_run and writer != 'text':
        own(path.name, 'report', b'written meanwhile by the run')
    WRITERS[writer](path)
    assert path.read_bytes() == b'ours' and not list(Path('run').glob('*.kept'))


def test_an_edit_in_place_is_kept():
    Path('page.html').write_bytes(b'forced')
    check_output('page.html', '--out', [], True)
    Path('page.html').write_bytes(b'edited')
    write_whole('page.html', 'ours')
    assert Path('page.html.kept').read_bytes() == b'edited' and Path('page.html').read_text() == 'ours'


@pytest.mark.parametrize('options', [[], ['--out', 'page.html'], ['--out', 'new/page.html']])
def test_a_command_keeps_what_appears_while_it_works(options, monkeypatch, capfd):
    image('run/pictures/features_5.jpg')
    path = Path(*options[1:]) if options else Path('run/report.html')
    draw = report._page

    def late(*args):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PRECIOUS)
        return draw(*args)

    monkeypatch.setattr(report, '_page', late)
    monkeypatch.setattr(sys, 'argv', ['coma-mm', 'report', 'run', *options])
    main()
    assert Path(f'{path}.kept').read_bytes() == PRECIOUS and '<title>' in path.read_text()


def test_folders_for_pictures():
    image('im/a.jpg')
    image('full/b.jpg')
    for folder, force in (('im', True), ('im/new', True), ('full', False)):
        with pytest.raises(ValueError, match='--show-dir'):
            check_folder(folder, ['im'], force)
    check_folder('new', ['im'], False)


def test_files_that_a_config_names_are_inputs():
    os.mkdir('im')
    checkpoint('im/a.pkl')
    Path('list.txt').write_text('im/a.jpg\n')
    settings = dict(dataset=dict(data_root='im', ann_file='a.pkl', parts=[dict(data_root=['list.txt', 'no'])]), n=1)
    assert find_files(settings, ['', *find_roots(settings)]) == ['im/a.pkl', 'list.txt']


@pytest.mark.parametrize('name', ['new', 'empty', 'link', 'a/b/new'])
def test_a_folder_is_made_whole_or_not_at_all(name):
    os.mkdir('empty')
    os.symlink('empty', 'link')
    with whole_folder(name) as unfinished:
        (unfinished / 'x').touch()
    assert os.listdir(name) == ['x']
    Path(f'.mine.{os.getpid()}').mkdir()  # whatever number the process has
    before = sorted(Path('.').rglob('*'))
    with pytest.raises(KeyboardInterrupt), whole_folder(f'{name}/mine') as unfinished:
        (unfinished / 'x').touch()
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), whole_folder('c/d/mine'):
        raise KeyboardInterrupt
    assert sorted(Path('.').rglob('*')) == before


@pytest.mark.parametrize(
    'args',
    [
        ['export', 'a.pth', 'a.pth'],
        ['report', 'run', '--out', 'page.html'],
        ['browse', str(TINY), '--out', 'mine.png'],
        ['embed', 'a.pth', 'im', '--out', 'old.npz'],
        ['shards', 'im', 'full'],
        ['train', str(TINY), '--work-dir', 'locked', '--cfg-options', 'train_cfg.max_epochs=1'],
    ],
)
def test_commands(args, refused):
    checkpoint('a.pth')
    image('im/a.jpg')
    image('mine.png')
    image('full/a.png')
    np.savez('old.npz', a=1)
    Path('page.html').write_bytes(PRECIOUS)
    Path('locked').mkdir()
    Path('locked/epoch_1.pth').write_bytes(PRECIOUS)
    before = content('.')
    line = refused(*args)
    assert line.startswith('error: ') and ('another' in line or 'force' in line)
    assert content('.') == before


IN_THE_WAY = [
    (['report', 'run'], 'manifest.json', 'name another file with --out'),
    (['test', 'my.py', 'a.pth', '--work-dir', 'run'], 'manifest.json', 'choose another --work-dir'),
    (['compare', 'other', 'im'], 'pictures/comparison_4.jpg', 'name another folder with --out'),
    (['compare', 'other', 'im'], 'pictures/comparison_40.jpg', 'name another folder with --out'),
]


@pytest.mark.parametrize('form', [*FORMS, 'a list'])
@pytest.mark.parametrize(('args', 'name', 'remedy'), IN_THE_WAY)
def test_a_file_in_the_way_of_a_command_is_refused_early(args, name, remedy, form, refused):
    scalars = Path('run/20260101_000000/vis_data/scalars.json')
    scalars.parent.mkdir(parents=True)
    scalars.write_text(json.dumps(dict(lr=0.1, loss=1.0, step=1)))
    checkpoint('a.pth')
    cfg = Config.fromfile(TINY)
    cfg.update(test_dataloader=cfg.train_dataloader, test_cfg={}, test_evaluator=dict(type='Accuracy'))
    cfg.dump('my.py')
    own('epoch_1.pth', folder='other')
    image('im/a/a.png')
    path = Path(args[1] if args[0] == 'compare' else 'run', name)
    path.parent.mkdir(exist_ok=True)
    if form == 'a list':
        path.write_text('[]')
    else:
        FORMS[form](path)
    before = content('.')
    line = refused(*args)
    assert line.startswith(f'error: {path} ') and 'move it away' in line and remedy in line
    assert content('.') == before and (form == 'folder') == path.is_dir()
