import base64
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_run import write_scalars

from coma_mm.utils.manifest import fingerprint, note
from coma_mm.visualization.report import FRAMES, write_report
from coma_mm.visualization.run_files import find_pictures, forget_pictures, keep_picture, read_scalars, write_facts

HOSTILE = '<script>alert(1)</script>"\'&'


class Page(HTMLParser):
    """A page as a browser would take it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('img', 'meta', 'input', '!doctype'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'script'):
            self.words.append(data)

    def all(self, tag, **attributes):
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]


def line(step, **values):
    return dict(lr=1e-3, time=0.5, data_time=0.1, loss=1 / step, epoch=(step + 9) // 10, iter=step, step=step, **values)


@pytest.fixture
def work_dir(tmp_path):
    """A folder such as a run of two starts leaves, with a name, settings and warnings that would like to be code."""
    folder = tmp_path / f'run {HOSTILE.replace("/", "")}'
    write_scalars(folder, 'a', [line(10), line(20), dict(psnr=20.0, psnr_baseline=14.0, step=20), line(30)])
    write_scalars(folder, 'b', [line(25, memory=7), {'quality/rankme': 12.5, 'step': 25}, '{"loss": 1, "st'])
    (folder / 'config.py').write_text(f'name = "{HOSTILE}"\n')
    write_facts(folder, dict(config='config.py', images_per_iteration=64, state='Still training.', warnings=[HOSTILE]))
    rng = np.random.default_rng(0)
    for step in (10, 20, 25):
        keep_picture(folder, 'reconstruction', rng.integers(256, size=(300, 400, 3), dtype=np.uint8), step)
    keep_picture(folder, 'features', np.zeros((50, 60, 3), np.uint8), 20)
    keep_picture(folder, 'neighbours', np.zeros((50, 60, 3), np.uint8), 20)
    return folder


def test_page(work_dir):
    path = write_report(work_dir)
    text = path.read_text()
    page = Page(text)
    assert path == work_dir / 'report.html' and not page.open and len(text) < 2e6
    words = ' '.join(page.words)
    titles = [
        *('Training loss', 'Learning rate', 'Throughput (images/s)', 'Reconstruction (dB)', 'memory'),
        *('Effective rank of the features (RankMe)', 'Waiting for data (%)', 'Reconstructions'),
        *('Features and attention of each stage', 'Nearest neighbours', 'Still training.'),
    ]
    assert [title for title in titles if title not in words] == []
    # What is shown of configs, names and warnings is text.
    assert len(page.all('script')) == 1 and words.count('alert(1)') >= 3
    # Nothing comes from elsewhere, nothing may.
    sources = [value for _, found in page.tags for key, value in found.items() if key in ('src', 'href', 'srcset')]
    assert sources and all(source.startswith('data:image/') for source in sources)
    (policy,) = page.all('meta', **{'http-equiv': 'Content-Security-Policy'})
    assert policy['content'].startswith("default-src 'none'; img-src data:;")
    # The slider has a frame for each picture and starts at the last.
    (slider,) = page.all('input', type='range')
    frames = [found['class'] for _, found in page.tags if str(found.get('class')).startswith('frame')]
    assert slider['max'] == slider['value'] == '2' and frames == ['frame', 'frame', 'frame shown']
    assert 'epoch 1, iteration 10' in words and 'epoch 3, iteration 25' in words
    # The last numbers, the throughput from seconds and images.
    rows = re.findall(r'<tr><td>([\w/]+)</td>' + r'<td class="number">([^<]*)</td>' * 3, text)
    rows = {name: values for name, *values in rows}
    assert rows['loss'] == ['0.1', '0.04', '25'] and rows['throughput'] == ['128', '128', '25']


def test_charts_are_drawings(work_dir):
    page = Page(write_report(work_dir).read_text())
    drawings = [found['src'] for found in page.all('img') if 'svg' in found['src'][:20]]
    assert len(drawings) == 7
    for drawing in drawings:
        assert b'<svg' in base64.b64decode(drawing.partition(',')[2])


def test_a_start_that_goes_on_from_before_replaces_what_it_repeats(work_dir):
    scalars = read_scalars(work_dir)
    assert [step for step, _ in scalars['loss']] == [10, 20, 25]
    assert scalars['psnr'] == [(20, 20.0)] and scalars['quality/rankme'] == [(25, 12.5)]
    write_scalars(work_dir, 'c', [dict(line(5), loss=float('nan')), {'coco/bbox_mAP': 0.3, 'step': 1}])
    scalars = read_scalars(work_dir)
    assert 'loss' not in scalars and scalars['coco/bbox_mAP'] == [(1, 0.3)]
    forget_pictures(work_dir, 20)
    assert [step for step, _ in find_pictures(work_dir)['reconstruction']] == [10, 20]


def test_a_long_run_stays_small(tmp_path):
    """A thousand epochs: curves are averaged, pictures left out but for the first, the last and some between."""
    write_scalars(tmp_path, 'a', [line(step, **{f'm{i}': step for i in range(4)}) for step in range(1, 5001)])
    noise = np.random.default_rng(0).integers(256, size=(1100, 800, 3), dtype=np.uint8)
    path = keep_picture(tmp_path, 'reconstruction', noise // 4, 1)
    for step in range(2, 40):
        shutil.copy(path, path.with_stem(f'reconstruction_{step}'))
    names = [f'pictures/{copy.name}' for copy in path.parent.iterdir()]
    note(tmp_path, {name: dict(kind='picture', **fingerprint(path)) for name in names})
    (tmp_path / 'pictures' / '.reconstruction_9.123.jpg').touch()  # what a killed process left
    text = write_report(tmp_path).read_text()
    page = Page(text)
    assert len(text) < 2e6
    frames = [found['alt'] for found in page.all('img') if 'jpeg' in found['src'][:20]]
    assert 2 <= len(frames) <= max(2, FRAMES // path.stat().st_size)
    assert 'iteration 1' in frames[0] and 'iteration 39' in frames[-1]
    assert f'{len(frames)} of 39 pictures' in ' '.join(page.words)


@pytest.mark.parametrize(
    'lines',
    [
        [dict(step=2, a=1e308, b=-1e308)],
        ['{"step":2,"a":NaN,"b":Infinity,"lr":-Infinity}'],
        ['{"step":2,"a":' + '9' * 4000 + '}', '{"step":3,"a":' + '9' * 60_000 + '}'],
        [dict(step=step, a=1) for step in (True, -5, 10**30, 2.5, '7', None, [])],
        [dict(step=2, a='1', b=None, c=[1], d={}, e=True)],
        ['{"step":2,"a":' + '[' * 30_000 + '}', '[1]', '5', '"x"'],
    ],
)
def test_what_is_no_number_is_left_out(lines, tmp_path):
    write_scalars(tmp_path, 'a', [line(1), *lines, line(9)])
    assert set(read_scalars(tmp_path)) == {'lr', 'time', 'data_time', 'loss', 'epoch'}
    write_report(tmp_path)


@pytest.mark.parametrize('name', ['\ud800x', 'loss_\udfff', '$\\frac{', 'loss_$x', HOSTILE, '', '\x1b[31m\0', '_x'])
def test_names_of_curves_are_text(name, tmp_path):
    write_scalars(tmp_path, 'a', [line(1), {'step': 2, name: 5.0}])
    page = write_report(tmp_path).read_text()
    assert len(Page(page).all('script')) == 1 and '\x1b' not in page and '\0' not in page


FILES = 'pictures/run.json', 'x.py', 'b/vis_data/scalars.json', 'pictures/features_5.jpg'


@pytest.mark.parametrize('file', FILES)
def test_links_and_pipes_are_left_out(file, tmp_path):
    """Nothing of what a link in the folder leads to is shown, and no pipe or device is waited for."""
    run, secret = tmp_path / 'run', tmp_path / 'secret'
    write_scalars(run, 'a', [line(1), line(2)])
    expected = write_report(run).read_text()
    secret.write_bytes(b'\xff\xd8 {"step": 1, "secret": 1}')
    path = run / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for target in secret, '/dev/zero', 'nowhere':
        path.symlink_to(target)
        assert write_report(run).read_text() == expected
        path.unlink()
    os.mkfifo(path)
    assert write_report(run).read_text() == expected


@pytest.mark.parametrize(
    'facts',
    ['[' * 100_000, '[1]', '{"warnings":5,"state":[1],"images_per_iteration":"x","a":{"b":[1]},"c":1e999}',
     '{"images_per_iteration":0}', json.dumps(dict(warnings=['<b>' * 10**5] * 100, images_per_iteration=True)),
     json.dumps({f'k{i}': 'v' * 10**4 for i in range(300)})],
)  # fmt: skip
def test_facts_of_any_kind(facts, work_dir):
    (work_dir / 'pictures/run.json').write_text(facts)
    assert len(write_report(work_dir).read_text()) < 2e6


def test_long_logs_are_read_in_part(tmp_path):
    """Some values, evenly, the first and the last, of as many names and charts as a page has room for."""
    write_scalars(tmp_path, 'a', [line(step) for step in range(1, 30_001)])
    write_scalars(tmp_path, 'b', [dict(step=30_001, **{f'm{i}': 1 for i in range(500)})])
    scalars = read_scalars(tmp_path)
    assert len(scalars) == 200 and scalars['loss'][0] == (1, 1.0) and scalars['loss'][-1][0] == 30_000
    gaps = np.diff([step for step, _ in scalars['loss']])
    assert 1000 <= len(scalars['loss']) <= 2002 and gaps.max() < 200
    page = Page(write_report(tmp_path).read_text())
    assert len([found for found in page.all('img') if 'svg' in found['src'][:20]]) == 14
    assert 'more are below, as numbers.' in ' '.join(page.words)


def test_folders_without_a_run_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere; give the work dir of a run'):
        write_report(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='is no work dir of a run'):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_in_a_browser(work_dir, tmp_path):
    """In a browser, where there is one, nothing of the page runs but the slider."""
    chromium = shutil.which('chromium')
    if chromium is None:  # parsed in the tests above
        return
    path = write_report(work_dir, tmp_path / 'page.html')
    options = [
        *('--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'),
        *('--disable-component-update', '--disable-sync', '--no-first-run', f'--user-data-dir={tmp_path}/profile'),
    ]
    move = "; const s = document.querySelector('input'); s.value = 0; s.oninput();</script></body>"
    path.write_text(path.read_text().replace('</script></body>', move))
    command = [chromium, *options, '--dump-dom', path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    frames = [found['class'] for _, found in Page(dom).tags if str(found.get('class')).startswith('frame')]
    assert frames == ['frame shown', 'frame', 'frame']
