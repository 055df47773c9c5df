"""What the documents say about the code is true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
# [file.py:1-20](../file.py#L1-L20) (`Name.method`)
REFERENCE = re.compile(r'\[([\w./-]+\.py):(\d+)-(\d+)\]\(\.\./([\w./-]+\.py)#L(\d+)-L(\d+)\)(?: \(`([\w.]+)`\))?')


def find(file, name):
    """Return the first and last line of a class, function or constant in a file; of the whole file without a name."""
    source = (ROOT / file).read_text()
    nodes, span = ast.parse(source).body, (1, len(source.splitlines()))
    for part in name.split('.') if name else ():
        for node in nodes:
            names = [
                getattr(node, 'name', None),
                *(getattr(target, 'id', None) for target in getattr(node, 'targets', ())),
            ]
            if part in names:
                first = min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', ()))])
                nodes, span = getattr(node, 'body', []), (first, node.end_lineno)
                break
        else:
            raise AssertionError(f'{file} has no {name}')
    return span


def test_line_ranges():
    text = (ROOT / 'docs/paper-map.md').read_text()
    references = REFERENCE.findall(text)
    assert len(references) > 30 and len(references) == text.count('](../')
    for file, first, last, link, link_first, link_last, name in references:
        assert (file, first, last) == (link, link_first, link_last)
        assert (int(first), int(last)) == find(file, name), f'{name} of {file} is at lines {find(file, name)}'


def test_links_and_configs_exist():
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text):
            assert (page.parent / target).exists(), f'{page.name} links to {target}'
        for config in re.findall(r'configs/[\w./-]+\.py', text):
            assert (ROOT / config).exists(), f'{page.name} names {config}'


def test_readme_lists_every_config():
    text = (ROOT / 'README.md').read_text()
    for config in (ROOT / 'configs').glob('[!_]*/*.py'):
        assert config.name in text, config.name


def without_figures(page):
    """Return a page without what tools/figures.py writes, without formulas and code."""
    text = re.sub(r'<!--=.*?<!--/-->', '', page.read_text(), flags=re.DOTALL)
    return re.sub(r'```.*?```|`[^`\n]*`|^    [^\n]*$', '', text, flags=re.DOTALL | re.MULTILINE)


def test_figures_are_those_of_the_json_files():
    done = subprocess.run([sys.executable, ROOT / 'tools/figures.py', '--check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


MEASURED = re.compile(
    r'\d[\d.,]* (?:GMACs|GFLOP|M parameters|dB|GiB|GB/s|ms per image|images/s|images per second|% from'
    r'|of (?:the time|its own|MAE|ViT))'
)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_no_figure_is_typed(page):
    """In what units figures are measured; what the paper claims is typed, and said in others."""
    assert not MEASURED.findall(without_figures(page))


def test_no_table_of_the_benchmarks_is_typed():
    text = without_figures(ROOT / 'docs/benchmarks.md')
    assert not re.findall(r'^\|.*\|\s*[\d.]+.*\|$', text, re.MULTILINE)
