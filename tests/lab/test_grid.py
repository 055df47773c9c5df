import json
import os

import pytest
from studies.grid import (
    append_result,
    finished_elsewhere,
    is_finished,
    link_folder,
    locked,
    make_cells,
    read_results,
    read_study,
    results_file,
    take_result,
)

STUDY = """
config = 'run.py'
cells = dict(
    late=dict(),
    long=dict(options={'model.depth': 3}, length=1.5, cpu={'model.width': 7}),
    random=dict(length=0),
    after=dict(config='other.py', start='late', measures=dict(validation=dict())),
    once=dict(seeds=[1]),
)
first = ('long',)
measures = dict(features=dict(), finetune_1=dict(percent=1, epochs=9))
sizes = dict(
    smoke=dict(seeds=[0], epochs=4, cells=['late'], measures=dict(finetune_1=dict(epochs=2))),
    cpu=dict(seeds=[0, 1], epochs=10, options={'model.depth': 2}),
)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.py').write_text(STUDY)
    return read_study('tiny.py')


def test_cells_come_first_cells_first_then_seed_by_seed(study):
    cells = make_cells(study, 'cpu')
    assert [cell.title for cell in cells] == [
        'long-0', 'long-1', 'late-0', 'random-0', 'after-0', 'late-1', 'random-1', 'after-1', 'once-1',
    ]  # fmt: skip
    assert [cell.title for cell in make_cells(study, 'smoke')] == ['late-0']
    with pytest.raises(ValueError, match='has the sizes smoke, cpu, not gpu'):
        make_cells(study, 'gpu')


def test_what_a_size_and_a_cell_say_is_merged(study, tmp_path):
    cells = {cell.title: cell for cell in make_cells(study, 'cpu')}
    assert cells['late-0'].options == {'model.depth': 2} and cells['late-0'].epochs == 10
    assert cells['long-0'].options == {'model.depth': 3, 'model.width': 7} and cells['long-0'].epochs == 15
    assert cells['random-1'].epochs == 0 and cells['random-1'].seed == 1
    assert cells['late-0'].config == str(tmp_path / 'run.py')
    after = cells['after-1']
    assert after.config == str(tmp_path / 'other.py') and after.options == {} and after.epochs is None
    assert after.start == 'work_dirs/studies/tiny/cpu/late-1'
    assert after.measures == dict(validation={})
    (smoke,) = make_cells(study, 'smoke')
    assert smoke.measures == dict(features={}, finetune_1=dict(percent=1, epochs=2))


def test_cells_are_run_on_each_folder(study, tmp_path):
    study.folders = ['train.data_root', 'held_out.data_root']
    assert make_cells(study, 'smoke') == []
    for name in ('b', 'a', 'b'):
        (tmp_path / f'photos {name}').mkdir(exist_ok=True)
        link_folder('tiny', f'{name}={tmp_path}/photos {name}')
    cells = make_cells(study, 'cpu')
    assert [cell.title for cell in cells[:4]] == ['long@a-0', 'long@b-0', 'long@a-1', 'long@b-1']
    roots = dict.fromkeys(study.folders, 'work_dirs/studies/tiny/folders/a')
    assert cells[0].options == {'model.depth': 3, 'model.width': 7, **roots}
    assert os.path.samefile('work_dirs/studies/tiny/folders/b', 'photos b')
    for wrong in ('photos a', '=photos a', '../c=photos a', 'c=none', 'a-b=photos a', 'c='):
        with pytest.raises(ValueError, match='give NAME=PATH'):
            link_folder('tiny', wrong)


def line_of(cell, **more):
    return dict(
        study=cell.study, size=cell.size, cell=cell.name, seed=cell.seed, settings=cell.settings, measures=[], **more
    )


def test_a_cell_is_finished_when_all_of_it_is_there(study):
    long, other, late = make_cells(study, 'cpu')[:3]
    line = line_of(long)
    assert not is_finished(long, [])
    assert not is_finished(long, [line])
    line['measures'] = ['finetune_1', 'features', 'more']
    assert is_finished(long, [line]) and not is_finished(other, [line]) and not is_finished(late, [line])
    long.options['model.depth'] = 4
    assert not is_finished(long, [line])


def test_results_append_and_the_last_line_counts(study):
    cell = make_cells(study, 'cpu')[0]
    for value in (1, 2):
        append_result(line_of(cell, value=value))
    append_result(dict(line_of(cell), size='gpu'))
    path = results_file('tiny', 'cpu')
    assert str(path) == 'docs/evidence/tiny.jsonl' and len(path.read_text().splitlines()) == 3
    assert [line['value'] for line in read_results('tiny', 'cpu')] == [2]
    assert 'work_dirs' in str(results_file('tiny', 'smoke'))
    path.write_text(json.dumps(line_of(cell)) + '\n{"half')
    with pytest.raises(ValueError, match='line 2 of docs/evidence/tiny.jsonl is no result'):
        read_results('tiny', 'cpu')


def test_the_same_run_of_another_study_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for done in make_cells(read_study('method'), 'cpu'):
        if done.title in ('copy-1', 'off-0'):
            line = dict(study='method', size='cpu', cell=done.name, seed=done.seed, settings=done.settings)
            append_result(line | dict(measures=list(done.measures), qualities=dict(probe=done.seed)))
    cells = make_cells(read_study('evaluation_weights'), 'cpu') + make_cells(read_study('attention'), 'cpu')
    elsewhere = finished_elsewhere('attention', 'cpu')
    found = {(cell.study, cell.title): line for cell in cells if (line := take_result(cell, elsewhere))}
    assert list(found) == [('evaluation_weights', 'copy-1'), ('evaluation_weights', 'off-0'), ('attention', 'shared-0')]
    shared = found['attention', 'shared-0']
    assert (shared['study'], shared['cell'], shared['taken_from']) == ('attention', 'shared', 'method')
    assert shared['qualities'] == dict(probe=0)
    (copy,) = (cell for cell in cells if cell.title == 'copy-1')
    copy.measures['finetune_1'] |= dict(epochs=99)
    assert take_result(copy, elsewhere) is None, 'measured in another way'


def test_one_process_at_a_time(study):
    with locked('tiny'):
        with pytest.raises(ValueError, match='another process is at work on tiny'):
            with locked('tiny'):
                pass
    with locked('tiny'):
        pass


def test_unknown_study():
    with pytest.raises(ValueError, match='there is no study methods; choose one of attention, .* method,'):
        read_study('methods')
