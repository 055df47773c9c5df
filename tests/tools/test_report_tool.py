import json

import pytest
from processes import refuse, run


def test_report_of_a_work_dir(monkeypatch, capsys, tmp_path):
    """A work dir of any toolbox: scalars are enough."""
    scalars = tmp_path / 'work/20260101_000000/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    lines = [dict(lr=0.1, loss_bbox=1 / i, time=0.2, step=i) for i in (1, 2)] + [{'coco/bbox_mAP': 0.4, 'step': 1}]
    scalars.write_text('\n'.join(map(json.dumps, lines)))
    run(monkeypatch, tmp_path, 'report.py', 'work', '--out', 'new/page.html')
    assert capsys.readouterr().out == 'written to new/page.html\n'
    text = (tmp_path / 'new/page.html').read_text()
    assert 'coco/bbox_mAP' in text and 'loss_bbox' in text and 'Throughput (iterations/s)' in text


@pytest.mark.parametrize(('folder', 'error'), [('none', 'there is no folder none'), ('.', 'is no work dir of a run')])
def test_one_clear_error(monkeypatch, capfd, tmp_path, folder, error):
    assert error in refuse(monkeypatch, capfd, tmp_path, 'report.py', folder)
