"""What the documents say about the code is true."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        text = page.read_text()
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text):
            assert (page.parent / target).exists(), f'{page.name} links to {target}'
        for config in re.findall(r'configs/[\w./-]+\.py', text):
            assert (ROOT / config).exists(), f'{page.name} names {config}'


def test_readme_lists_every_config():
    text = (ROOT / 'README.md').read_text()
    for config in (ROOT / 'configs').glob('[!_]*/*.py'):
        assert config.name in text, config.name
