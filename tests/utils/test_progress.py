from coma_mm.utils import progress


def test_lines_where_there_is_no_terminal(monkeypatch, capsys):
    times = iter([0, 10, 31, 50, 60])
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(times))
    assert list(progress.show_progress('abc', 'letters')) == ['a', 'b', 'c']
    assert capsys.readouterr().out == 'letters: 66 %\n'
