from processes import run
from tiny_run import write_scalars


def test_report_of_a_work_dir(monkeypatch, capsys, tmp_path):
    """A work dir of any toolbox: scalars are enough."""
    lines = [dict(lr=0.1, loss_bbox=1 / i, time=0.2, step=i) for i in (1, 2)] + [{'coco/bbox_mAP': 0.4, 'step': 1}]
    write_scalars(tmp_path / 'work', 'a', lines)
    run(monkeypatch, tmp_path, 'report.py', 'work', '--out', 'new/page.html')
    assert capsys.readouterr().out == 'written to new/page.html\n'
    text = (tmp_path / 'new/page.html').read_text()
    assert 'coco/bbox_mAP' in text and 'loss_bbox' in text and 'Throughput (iterations/s)' in text
