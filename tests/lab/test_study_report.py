import pytest
from mmengine.config import Config
from studies.grid import append_result
from studies.report import crossing, expand_rows, interpolate, table, write_report

CURVE = [
    dict(images=0, gflops=0, loss=1.0),
    dict(images=100, gflops=10, loss=0.6),
    dict(images=200, gflops=20, loss=0.5),
]


def line(cell, seed, scale, **more):
    curve = [dict(point, gflops=point['gflops'] * scale, seconds=point['images']) for point in CURVE]
    return dict(
        study='tiny', size='cpu', cell=cell, seed=seed, settings={}, measures=[], device='CPU', threads=2,
        commit='abc', date='2025-01-01', seconds_measuring={}, images=200, gflops=20.0 * scale, seconds=3600.0,
        curve=curve, **more,
    )  # fmt: skip


def test_between_points_curves_are_straight():
    assert crossing(CURVE, 'images', 'loss', 0.58) == pytest.approx(120)
    assert crossing(CURVE, 'images', 'loss', 1.2) == 0
    assert crossing(CURVE, 'images', 'loss', 0.4) is None
    assert interpolate(CURVE, 'gflops', 'loss', 15) == pytest.approx(0.55)
    assert interpolate(CURVE, 'gflops', 'loss', 99) == 0.5
    # but for the first piece, the fall from random weights
    assert crossing(CURVE, 'images', 'loss', 0.8) == 100 and interpolate(CURVE, 'gflops', 'loss', 5) is None


def test_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Config(
        dict(
            cells=dict(off={}, copy={}),
            report=dict(
                qualities=dict(probe='probe (%)', absent='absent'),
                reach=dict(reference='off', quality='loss'),
                plots=[dict(x=['images', 'gflops'], y='loss')],
            ),
        )
    )
    with pytest.raises(ValueError, match='there are no results of size cpu in docs/evidence/tiny.jsonl'):
        write_report(study, 'tiny', 'cpu')
    append_result(line('copy', 0, 2, qualities=dict(probe=50.0), shared=True))
    append_result(line('off', 0, 1, qualities=dict(probe=40.0)))
    append_result(line('off', 1, 1, qualities=dict(probe=42.0)))
    text, plot = write_report(study, 'tiny', 'cpu')
    assert plot.read_bytes()[1:4] == b'PNG'
    text = text.read_text()
    assert '| off | 2 | 200 | 20 | 3,600 | 41 (40-42) |' in text
    assert '| copy | 1 | 200 | 40 | 3,600* | 50 |' in text
    assert text.index('| off |') < text.index('| copy |')  # the study's order
    assert '| copy | 200 | 40 | 200 | 0.6 |' in text  # to come to off's end; the loss after off's GFLOPs
    assert 'absent' not in text and '3.0 hours in all' in text and '(tiny-plot.png)' in text


def test_curves_of_another_axis_come_after_those_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bands = line('off', 0, 1, qualities=dict(psnr=1.0))
    bands['curve'] += [dict(frequency=0.1, error=0.5, error_baseline=0.6), dict(frequency=0.4, error=0.9)]
    append_result(bands)
    plots = [dict(x='frequency', y='error'), dict(x='images', y='absent'), dict(x='images', y='loss')]
    study = Config(dict(cells=dict(off={}), report=dict(qualities=dict(psnr='PSNR'), plots=plots)))
    assert [path.name for path in write_report(study, 'tiny', 'cpu')] == ['tiny.md', 'tiny-plot.png', 'tiny-plot2.png']


def test_rows_of_several_models_join_the_cells_of_their_names():
    lines = [
        line('off', 0, 1, qualities=dict(probe=1.0)),
        line('speed', 0, 1, rows=dict(off=dict(ms=2.0), vit=dict(ms=3.0))),
    ]
    found = {row['cell']: row['qualities'] for row in expand_rows(lines)}
    assert found == dict(off=dict(probe=1.0, ms=2.0), vit=dict(ms=3.0))
    assert '| vit | 1 | 0 | 0 | 0 | 3 |' in table(expand_rows(lines), dict(ms='ms'))
