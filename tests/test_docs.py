"""The documents tell the truth about the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import coma_mm

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])


def test_links_and_configs_exist():
    for page in [*PAGES, ROOT / 'docs/tutorial.ipynb']:
        text = page.read_text()
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text):
            assert (page.parent / target).exists(), f'{page.name} links to {target}'
        for config in re.findall(r'configs/[\w./-]+\.py', text):
            assert (ROOT / config).exists(), f'{page.name} names {config}'


def test_model_zoo_lists_every_config():
    text = (ROOT / 'docs/model_zoo.md').read_text()
    for config in (ROOT / 'configs').glob('[!_]*/*.py'):
        if config.parent.name != 'studies':
            assert config.name in text, config.name


def test_api_pages_have_what_the_package_offers():
    text = (ROOT / 'docs/api/coma_mm.rst').read_text()
    assert all(re.search(rf'\.{name}\b', text) for name in coma_mm.__all__ if name != '__version__')


def test_evidence_has_a_command_for_every_study():
    text = (ROOT / 'docs/evidence.md').read_text()
    for study in (ROOT / 'configs/studies').glob('*.py'):
        assert f'tools/lab/study.py {study.stem}' in text and f'configs/studies/{study.name}' in text, study.name


FILES = re.compile(r'\b(?:tests|tools|coma_mm|configs)/[\w/.-]+\.(?:py|sh)\b')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    assert not [name for name in FILES.findall(page.read_text()) if not (ROOT / name).exists()]


def without_figures(page):
    """Return a page without what tools/lab/figures.py and tools/lab/metafiles.py write, without formulas and code."""
    written = r'<!--(?:=.*?|\w+)-->.*?<!--/-->|<!-- figures\n.*?-->|<!-- configs/.*?<!-- end -->'
    text = re.sub(written, '', page.read_text(), flags=re.DOTALL)
    return re.sub(r'```.*?```|`[^`\n]*`|^    [^\n]*$', '', text, flags=re.DOTALL | re.MULTILINE)


def test_figures_are_those_of_the_json_files():
    done = subprocess.run([sys.executable, ROOT / 'tools/lab/figures.py', '--check'], capture_output=True, text=True)
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
