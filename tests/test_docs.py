"""The documents tell the truth about the code."""

import ast
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


def names_of(file):
    """Yield the dotted names of a module, of what it defines or hands on, and of the members of its classes."""
    module = '.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    yield module
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield f'{module}.{node.name}'
            yield from (f'{module}.{node.name}.{part.name}' for part in node.body if isinstance(part, ast.FunctionDef))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield f'{module}.{node.id}'
        elif isinstance(node, ast.alias) and file.name == '__init__.py':
            yield f'{module}.{node.asname or node.name}'


def test_references_in_docstrings_lead_somewhere():
    """A leading dot stands for any module; a bare name is one of the module itself."""
    names = {file: [*names_of(file)] for file in (ROOT / 'coma_mm').rglob('*.py')}
    known = {name for found in names.values() for name in found} | {f'coma_mm.{name}' for name in coma_mm.__all__}
    lost = []
    for file, own in names.items():
        for name in re.findall(r':(?:class|func|meth|mod|data):`~?([\w.]+)`', file.read_text()):
            if name.startswith('coma_mm.'):
                leads = name in known
            else:
                choice = known if name.startswith('.') else own
                leads = any(one.endswith(f'.{name.removeprefix(".")}') for one in choice)
            if not leads and name.split('.')[0] not in sys.stdlib_module_names:
                lost.append(f'{file.relative_to(ROOT)}: {name}')
    assert not lost, '\n'.join(lost)
