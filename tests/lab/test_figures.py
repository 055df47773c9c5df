"""``figures.py`` writes what the JSON files say into pages, computes nothing else, and says where a page is wrong."""

import json
import re

import pytest
from processes import refuse, run

PAGE = """It takes <!--step_b-->0.99<!--/--> of A, {more}
or <!--= 2 * column('models', 'B', 'GM') / 4 - 1 : .0% -->old<!--/-->,
then <!--= median('gpu/step', 'B') --><!--/-->.

<!--= table('step', title='name') -->
<!--/-->

| aim | measured | |
|---|---|---|
| <!--= aim('<= 0.5', ratio('step', 'B')) : .2f -->@<!--/--> |
| <!--= aim('>= 50 %', ratio('step', 'B')) : .0% -->@<!--/--> |

<!--= grid('sizes') --><!--/-->

<!-- figures
step_b = ratio('step', 'B') : .2f
-->
"""
WRITTEN = """It takes <!--step_b-->0.50<!--/--> of A, and
or <!--= 2 * column('models', 'B', 'GM') / 4 - 1 : .0% -->50 %<!--/-->,
then <!--= median('gpu/step', 'B') -->not measured<!--/-->.

<!--= table('step', title='name') -->

| name | ms | ratio | share |
|---|---|---|---|
| A | 2.00 (1.00-3.00) | 1.00 | 0.123 |
| B | 1.50 (0.500-4.00) | 0.50 |  |

<!--/-->

| aim | measured | |
|---|---|---|
| <!--= aim('<= 0.5', ratio('step', 'B')) : .2f -->≤ 0.5 | 0.50 | met<!--/--> |
| <!--= aim('>= 50 %', ratio('step', 'B')) : .0% -->≥ 50 % | 50 % | met<!--/--> |

<!--= grid('sizes') -->

|  | 224 px | 512 px |
|---|---|---|
| few | 1.00 | 2.00 |
| many | 3.00 |  |

<!--/-->

<!-- figures
step_b = ratio('step', 'B') : .2f
-->
"""


@pytest.fixture
def data(tmp_path):
    step = dict(unit='ms', rows=dict(A=[1.0, 3.0, 2.0], B=[0.5, 1.5, 4.0]), columns=dict(share=dict(A=0.1234)))
    sizes = dict(unit='us', rows={'few, 224 px': [1.0], 'few, 512 px': [2.0], 'many, 224 px': [3.0]}, columns={})
    (tmp_path / 'cpu-2-threads.json').write_text(json.dumps(dict(machine={}, tables=dict(step=step, sizes=sizes))))
    models = dict(columns=dict(GMACs=dict(B=3.0)))
    (tmp_path / 'counts.json').write_text(json.dumps(dict(tables=dict(models=models))))
    return tmp_path


def test_rewrite_then_check(data, monkeypatch, capfd):
    page = data / 'page.md'
    page.write_text(PAGE.format(more='and'))
    error = refuse(monkeypatch, capfd, data, 'lab/figures.py', page, '--data', data, '--check')
    assert "page.md: ratio('step', 'B'): '0.99' should be '0.50'" in error
    assert page.read_text() == PAGE.format(more='and')
    run(monkeypatch, data, 'lab/figures.py', page, '--data', data)
    printed = capfd.readouterr().out
    assert page.read_text() == WRITTEN
    assert "not measured (1):\n    page.md: median('gpu/step', 'B')" in printed
    run(monkeypatch, data, 'lab/figures.py', page, '--data', data, '--check')


WRONG = [  # pages, and what is said of them
    *(
        (f'first\nthen <!--= {formula} -->1<!--/-->{"<!--/-->" * formula.count("<!--=")} more\n', f'line 2: .*{error}')
        for formula, error in [
            ("__import__('os').getcwd()", 'is no number, text'),
            ("open('page.md')", 'is no number, text'),
            ('_table("step")', 'is no number, text'),
            ("median('step')", "missing 1 required positional argument: 'row'"),
            ("median('step', 'C'", 'was never closed'),
            ("median('step', 'A') -->1 and <!--= 2", 'the end mark <!--/--> is missing'),
        ]
    ),
    ('takes <!--b-->1<!--/-->', "line 1: there is no formula 'b' in the list"),
    ('takes <!--a-->1<!--/-->\n\n<!-- figures\na = median("step", "A")\nb = 1\n-->\n', 'has b, which nothing uses'),
    ("takes\n<!--= median('step', 'A') -->2.00<!--/--> ms\n", 'line 2.*a line that begins with <!-- is HTML'),
]


@pytest.mark.parametrize(('text', 'error'), WRONG)
def test_pages_that_are_wrong(text, error, data, monkeypatch, capfd):
    (data / 'page.md').write_text(text)
    printed = refuse(monkeypatch, capfd, data, 'lab/figures.py', data / 'page.md', '--data', data)
    assert 'error: page.md, ' in printed and re.search(error, printed)


def test_numbers_and_pages_of_studies(tmp_path, monkeypatch):
    folder, evidence = tmp_path / 'benchmarks', tmp_path / 'evidence'
    folder.mkdir()
    evidence.mkdir()
    lines = [dict(cell='copy', seed=0, size='cpu', images=100, qualities=dict(probe=value)) for value in (1.0, 40.0)]
    lines.append(dict(lines[0], seed=1, qualities=dict(probe=42.0)))
    lines.append(dict(lines[0], size='gpu', qualities=dict(probe=90.0)))
    (evidence / 'method.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    text = '# method\n\nFrom [lines](method.jsonl).\n\n| a |\n\n![loss](method-plot.png)\n'
    (evidence / 'method.md').write_text(text)
    page = tmp_path / 'page.md'
    formulas = (
        "quality('method', 'copy', 'probe') : .1f",
        "quality('method', 'copy', 'images') : .0f",
        "quality('method', 'mae75', 'probe')",
        "report('method')",
        "report('transfer')",
    )
    page.write_text('\n\n'.join(f'say <!--= {formula} --><!--/-->' for formula in formulas))
    run(monkeypatch, tmp_path, 'lab/figures.py', '--data', folder, page)
    text = page.read_text()
    assert '-->41.0<!--/-->' in text and '-->100<!--/-->' in text and '-->not measured<!--/-->' in text
    assert '| a |\n\n![loss](evidence/method-plot.png)\n\nFrom [lines](evidence/method.jsonl).' in text
    assert "report('transfer') -->\n\nnot measured\n" in text
