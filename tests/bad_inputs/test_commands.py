"""Command lines that cannot be followed end in one line that says why: each row is a command and words of that line."""

import json
from itertools import count

import pytest
from mmengine.config import Config
from noise import write_noise
from processes import TINY, TOOLS, last_line, run
from tiny_run import save_tiny

numbers = count()
CONFIGS = TOOLS.parent / 'configs'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The folder in which commands are called: a checkpoint, two photos, results, and things that are none."""
    folder = tmp_path_factory.mktemp('commands')
    save_tiny(folder / 'a.pth', cfg=Config.fromfile(TINY).pretty_text, epoch=1, iter=3)
    save_tiny(folder / 'bare.pth')
    for name in 'ab':
        write_noise(folder / f'photos/{name}.png', (60, 90))
    (folder / 'file').touch()
    (folder / 'empty').mkdir()
    (folder / 'broken.png').write_bytes((folder / 'photos/a.png').read_bytes()[:300])
    (folder / 'config.py').write_text(TINY.read_text())
    (folder / 'syntax.py').write_text("model = dict(type='a')\n\nx = = 1\n")
    (folder / 'name.py').write_text('lr = 1\nwarmup = steps * 2\n')
    (folder / 'base.py').write_text("_base_ = './nowhere.py'\n")
    machine = dict(device='cpu', date='today', settings=dict(precision='fp32', compile=False))
    table = dict(unit='ms', rows={'one': [1.0, 2.0], 'two': [2.0, 3.0]}, columns={})
    (folder / 'results.json').write_text(json.dumps(dict(machine=machine, tables=dict(step=table))))
    return folder


@pytest.fixture
def fail(monkeypatch, capfd, folder):
    """Return a function that calls a tool in this process and returns the line it ends with."""

    def fail(tool, *args, cwd=folder):
        if '--cfg-options' in args:  # or runs of the same second would share a logger
            args = [*args, f'experiment_name=run{next(numbers)}']
        before = sorted(cwd.rglob('*'))
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, cwd, tool, *args)
        assert stop.value.code in (1, 2)
        printed = capfd.readouterr().err
        assert 'Traceback' not in printed
        for path in set(cwd.rglob('*')) - set(before):
            # of a run that had begun
            assert not path.is_file() or path.name == '.lock' or path.suffix in ('.log', '.py', '.json'), path
        return last_line(printed)

    return fail


SWAPPED = 'a config is wanted in its place; mind the order'
LISTS = 'write lists as "a=[1,2]", and each key of a dict'
PRETRAINED = 'model.backbone.init_cfg.type=coma_mm.Pretrained', 'model.backbone.init_cfg.checkpoint=no.pth'
DETECTOR = ['model.backbone.init_cfg=None', 'train_dataloader.batch_size=1', 'train_dataloader.num_workers=0']
PUT = 'put it there, or set {}_dataloader.dataset.data_root, and data_prefix or ann_file, to where'
# What --cfg-options say; what values may be is in tests/engine/test_config_values.py.
OPTIONS = [
    (['optim_wrapper.modules=backbon,'], "names 'backbon', which CoMA does not have; did you mean"),
    (['model.backbone.in_channels=1'], 'the images have 3 channels, but the backbone was built'),
    (['model.backbone.depth=3'], "DyViT takes no argument 'depth'"),
    (['model.type=CoMA'], "no model of type='CoMA'; did you mean 'coma_mm.CoMA'?"),
    (['optim_wrapper.optimizer.type=AdamWW'], "of type='AdamWW'; did you mean 'AdamW'?"),
    (['optim_wrapper=None'], 'optim_wrapper go together, and there is no optim_wrapper'),
    (['model.decoder.depth=1000000'], 'depth must be a whole number from 1 to 1000'),
    (PRETRAINED, 'there is no checkpoint no.pth: name another with --cfg-options model.backbone.init_cfg.checkpoint='),
    (['x'], "--cfg-options takes KEY=VALUE, but 'x' has no ="),
    (['=x'], "--cfg-options takes KEY=VALUE, but '=x' has no KEY"),
    *(
        ([text], f'--cfg-options cannot read {text!r}: {LISTS}')
        for text in ('a=dict(b=1)', 'a=dict(b=1,c=2)', 'a={b: 1}', 'a=[dict(b=1),2]', 'a=[1', 'a=[1,2', 'a=(1,2]')
    ),
    *(
        ([f'a={text}'], '--cfg-options takes up to 10000 characters, and 64 brackets within each')
        for text in ('[' * 50_000 + ']' * 50_000, '([' * 40, '1,' * 20_000)
    ),
    (['train_cfg.max_epochs.x=1'], '--cfg-options do not fit'),
]
TABLE = [
    *(('train.py', [TINY, '--work-dir', 'run', '--cfg-options', *options], words) for options, words in OPTIONS),
    ('browse.py', [TINY, '--cfg-options', 'param_scheduler.end=-1'], 'param_scheduler.end=-1, but it must be a number'),
    # ---- configs that cannot be read
    ('train.py', ['syntax.py'], 'error: syntax.py, line 3: '),
    ('train.py', ['name.py'], "error: name.py, line 2: NameError: name 'steps' is not defined"),
    ('train.py', ['base.py'], 'error: base.py builds on nowhere.py, which is not there: correct its _base_'),
    # ---- options
    ('train.py', [TINY, '--work-dir', 'file'], 'nothing can be written in file: '),
    ('train.py', [TINY, '--launcher', 'pytorch'], 'by tools/dist_train.sh, dist_test.sh or torchrun, and here RANK'),
    ('train.py', [TINY, '--launcher', 'slurm'], 'started by tools/slurm_train.sh or srun, and here SLURM_PROCID'),
    ('train.py', [TINY, '--launcher', 'mpi'], 'are started by mpirun, and here OMPI_COMM_WORLD_LOCAL_RANK'),
    ('train.py', [TINY, '--epochs', '3'], 'error: unrecognized arguments: --epochs 3'),
    # ---- arguments in each other's place
    ('train.py', ['a.pth'], f'a.pth is a checkpoint, but {SWAPPED}'),
    ('get_flops.py', ['a.pth'], f'a.pth is a checkpoint, but {SWAPPED}'),
    ('export.py', ['config.py', 'b.pth'], 'config.py is a config, but a checkpoint is wanted in its place; mind the'),
    ('export.py', ['a.pth', 'b.pth', '--config', 'a.pth'], f'a.pth is a checkpoint, but {SWAPPED}'),
    *(
        (tool, ['a.pth', 'config.py', *more], 'is wanted in its place; mind the order')
        for tool, more in [('test.py', []), ('visualize.py', ['photos']), ('extract_features.py', ['photos'])]
    ),
    # ---- weights and images to look at
    *(
        (tool, [TINY, *args], words)
        for tool in ('visualize.py', 'extract_features.py')
        for args, words in [
            (['a.pth', 'empty'], 'error: there is no image in the folder empty'),
            (['a.pth', 'photos/c.png'], 'error: there is no file photos/c.png'),
            (['broken.png', 'photos'], 'error: broken.png is damaged or no checkpoint'),
            (['bare.pth', 'photos', '--cfg-options', 'model.backbone.arch.dims=(16,32,48,96)'], 'does not fit the'),
        ]
    ),
    ('visualize.py', [TINY, 'a.pth', 'photos', 'broken.png'], 'error: broken.png: '),
    ('visualize.py', [TINY, 'a.pth', 'photos', '--cfg-options', 'train_dataloader=None'], 'draws no ComplementaryMask'),
    ('extract_features.py', [TINY, 'a.pth', 'broken.png'], 'error: there are no images to take features of'),
    # ---- data that are not there
    ('test.py', [CONFIGS / 'cls/knn_dyvit-t_in1k.py', 'a.pth', '--work-dir', 'run'], PUT.format('test')),
    ('test.py', [CONFIGS / 'seg/upernet_dyvit-t_160k_ade20k-512.py', 'a.pth', '--work-dir', 'run'], 'which ADE20KData'),
    (
        'train.py',
        [CONFIGS / 'det/mask-rcnn_dyvit-t_fpn_1x_coco.py', '--work-dir', 'run', '--cfg-options', *DETECTOR],
        PUT.format('train'),
    ),
]


@pytest.mark.parametrize(('tool', 'args', 'words'), TABLE)
def test_one_line_says_why(fail, tool, args, words):
    assert words in fail(tool, *args)


WRITERS = [  # and how each is told where to write
    ('train.py', [TINY], '--work-dir', '{}/run'),
    ('test.py', [TINY, 'a.pth'], '--work-dir', '{}/run'),
    ('test.py', [TINY, 'a.pth'], '--out', '{}/a.pkl'),
    ('test.py', [TINY, 'a.pth'], '--show-dir', '{}/shown'),
    ('visualize.py', [TINY, 'a.pth', 'photos'], '--out', '{}/a.png'),
    ('extract_features.py', [TINY, 'a.pth', 'photos'], '--out', '{}/a.npz'),
    ('export.py', ['a.pth'], None, '{}/b.pth'),
    ('make_shards.py', ['photos'], None, '{}/shards'),
    ('lab/benchmark.py', ['step'], '--json', '{}/a.json'),
    ('lab/counts.py', [], '--json', '{}/a.json'),
    ('lab/plot_benchmark.py', ['results.json'], '--out', '{}'),
    ('lab/release.py', ['photos', 'name', '--data', 'x'], '--out', '{}/weights'),
]


@pytest.mark.parametrize('place', ['file', '/proc'])
@pytest.mark.parametrize(('tool', 'args', 'option', 'output'), WRITERS)
def test_places_that_cannot_be_written_to(fail, tool, args, option, output, place):
    """No folder is read-only to root: take a file in the place of a folder, and /proc."""
    line = fail(tool, *args, *([option] if option else []), output.format(place))
    assert line.startswith('error: ') and place in line
    assert 'cannot be written to' in line or 'is a file' in line or 'there is no folder' in line


def test_a_study_that_cannot_be_written(fail, tmp_path):
    (tmp_path / 'work_dirs').touch()
    line = fail('lab/study.py', 'coverage', '--size', 'smoke', cwd=tmp_path)
    assert 'cannot use work_dirs/studies/coverage: Not a directory; change that, or name another place' in line
