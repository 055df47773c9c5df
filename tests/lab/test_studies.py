"""Every study's smoke size runs; sizes that take hours are built."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from noise import write_noise
from studies import cell as cell_module
from studies.grid import (
    Cell,
    append_result,
    is_finished,
    link_folder,
    make_cells,
    read_results,
    read_study,
    studies_folder,
)
from studies.hook import StudyHook
from studies.measures import memory
from studies.report import write_report
from studies.training import find_latest, read_config
from tiny_cifar import write_archive
from tiny_coco import write_coco

STUDIES = sorted(path.stem for path in studies_folder().glob('*.py'))
# What runs each time: a cell or two of each study that does something of its own, with few measures. All else is slow.
QUICK = dict(
    attention=[],
    backbones=[],
    coverage=['coma'],
    efficiency=[],
    evaluation_weights=['copy_100'],
    memory=[],
    method=['copy', 'random', 'uniform', 'which', 'align_crop', 'cae'],
    recipe=['align@toy'],
    texture=[],
    transfer=[],
    views=[],
)
ALL = [(name, cell.name) for name in STUDIES for cell in make_cells(read_study(name), 'smoke')]
ALL += [('recipe', f'{cell}@toy') for cell in ('random', 'align')]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with small data of all kinds, which collects the work dirs of the cells."""
    folder = tmp_path_factory.mktemp('studies')
    write_archive(folder / 'cifar.npz')
    for part in ('train', 'val'):
        for number in range(4):
            write_noise(folder / f'photos/{part}/{number}.jpg', (140, 160), seed=number)
        write_noise(folder / f'camvid11/images/{part}/0.jpg', (260, 280))
        write_noise(folder / f'camvid11/labels/{part}/0.png', (260, 280), 11)
    for number in range(12):
        write_noise(folder / f'classes/{"abc"[number % 3]}/{number}.png', (70, 80), seed=number)
    (folder / 'coco_mini').mkdir()
    write_coco(folder / 'coco_mini', ('train', 'val'))
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv('COMA_MM_CIFAR10', str(place / 'cifar.npz'))
    monkeypatch.setenv('COMA_MM_PHOTOS', str(place))
    link_folder('recipe', f'toy={place}/classes')
    return place


def cells_of(name, size='smoke'):
    return {cell.name: cell for cell in make_cells(read_study(name), size)}


@pytest.mark.parametrize(
    ('name', 'cell'),
    [
        pytest.param(name, cell, marks=[] if cell in QUICK[name] else pytest.mark.slow, id=f'{name}-{cell}')
        for name, cell in ALL
    ],
)
def test_smoke(name, cell, here):
    cells = cells_of(name)
    cell = cells[cell]
    for other in cells.values():  # where this test runs without that of the cell it starts or learns from
        if str(other.work_dir) == cell.start and not is_finished(other, read_results(name, 'smoke')):
            append_result(cell_module.run(other))
    if name in ('backbones', 'evaluation_weights', 'method') and cell.name in QUICK[name]:
        kept = ['finetune_1'] if (name, cell.name) == ('method', 'copy') else []
        cell.measures = dict(reconstruction=dict(images=8), **{key: cell.measures[key] for key in kept})
    if (name, cell.name) == ('backbones', 'swin_copy'):
        small = dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[2, 4, 8, 8])
        encoder = cell.options['model.backbone']
        encoder = dict(encoder, backbone=dict(encoder['backbone'], arch=small), embed_dims=16, out_channels=128)
        cell.options['model.backbone'] = encoder
    line = cell_module.run(cell)
    append_result(line)
    assert is_finished(cell, read_results(name, 'smoke'))
    numbers = [*line.get('qualities', {}).values(), *(x for row in line.get('rows', {}).values() for x in row.values())]
    assert numbers and np.isfinite(numbers).all()
    if cell.epochs:
        assert line['images'] > 0 and line['gflops'] > 0 and line['seconds'] > 0 and isinstance(line['shared'], bool)
    if cell.epochs:
        assert [point['images'] for point in line['curve'] if 'images' in point][-1] == line['images']
    for path in write_report(read_study(name), name, 'smoke'):
        assert path.stat().st_size > 200


@pytest.mark.slow
def test_larger_sizes_are_sound(here):
    cells = [cell for name in STUDIES for size in ('cpu', 'gpu') for cell in make_cells(read_study(name), size)]
    distinct = {
        json.dumps(cell.settings): cell
        for cell in cells
        if any(name in str(cell.config) for name in ('photos128', 'folder64', 'cifar'))
    }
    assert len(distinct) > 40
    for cell in distinct.values():
        cfg = read_config(cell.config, cell.options, Path('unused'), 0, cell.epochs)
        if cell.epochs:
            assert cfg.train_cfg.max_epochs == cell.epochs == cfg.param_scheduler[-1].end
            assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        assert model.unit_size == cfg.train_dataloader.dataset.pipeline[2].unit_size


def test_a_cell_without_a_config_has_no_memory_to_measure():
    with pytest.raises(ValueError, match='the cell units-0 trains no config, whose memory could be measured'):
        memory(Cell('coverage', 'cpu', 'units', 0))


def test_an_interrupted_cell_goes_on_to_the_same_result(here, monkeypatch):
    cell = cells_of('method')['copy']
    cell.measures = dict(reconstruction=dict(images=8))
    cell.study = 'whole'
    whole = cell_module.run(cell)
    cell.study = 'interrupted'
    after_train_iter = StudyHook.after_train_iter

    def interrupt(self, runner, *args, **kwargs):
        after_train_iter(self, runner, *args, **kwargs)
        if runner.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StudyHook, 'after_train_iter', interrupt)
        cell_module.run(cell)
    resumed = cell_module.run(cell)
    weights = [torch.load(find_latest(Path('work_dirs/studies') / name / 'smoke/copy-0/train'), weights_only=False)
               for name in ('whole', 'interrupted')]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(*(x['state_dict'].values() for x in weights)))
    assert whole['qualities'] == resumed['qualities']
    assert [point['loss'] for point in whole['curve']] == [point['loss'] for point in resumed['curve']]
    # what was measured is kept: nothing is trained again
    monkeypatch.setattr(cell_module, 'train_cell', None)
    assert cell_module.run(cell) == resumed
    assert json.loads(json.dumps(resumed)) == resumed
