#!/usr/bin/env python
"""Check the prose of docstrings and pages: how docstrings begin, how long sentences are.

    tools/lab/prose.py

Part of `make lint`. The standard library is enough.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A docstring begins with the thing or the action, not with a clause about it.
CLAUSES = {'What', 'How', 'Whether', 'Where', 'Who', 'Which', 'When', 'That', 'Of', 'As', 'Those'}
LONGEST = 30  # words of a sentence
SECTIONS = r'\n\s*(?:Args|Returns|Raises|Yields|Attributes|Shapes):'


def read_docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def find_faults(text: str) -> Iterator[str]:
    """Yield the faults of a docstring."""
    word = re.match(r'\w+', text)
    if word and word[0] in CLAUSES:
        yield f'a docstring begins with {word[0]!r}: name the thing, or say what is done'
    yield from find_long_sentences(re.split(SECTIONS, text)[0])


def find_long_sentences(text: str) -> Iterator[str]:
    """Yield what to say of sentences that are too long; tables, lists and code are none."""
    for paragraph in re.split(r'\n\s*\n', re.sub(r'```.*?```', '', text, flags=re.S)):
        if re.match(r'\s{4}|\s*[|#<`*-]|\s*\d+\.', paragraph):
            continue
        plain = re.sub(r'<!--.*?-->|\[([^]]*)\]\([^)]*\)', r'\1', paragraph, flags=re.S)
        for sentence in re.split(r'(?<=[.:;!?])\s', plain):
            words = re.findall(r'[^\W\d_]{2,}', sentence)
            if len(words) > LONGEST:
                yield f'a sentence of {len(words)} words, of {LONGEST} at most: {" ".join(sentence.split())[:60]} ...'


def main() -> None:
    """Print all faults; fail if there is one."""
    found = []
    for folder in ('coma_mm', 'configs', 'tools', 'tests'):
        for file in sorted((ROOT / folder).rglob('*.py')):
            for line, text in read_docstrings(file):
                found += [f'{file.relative_to(ROOT)}:{line}: {fault}' for fault in find_faults(text)]
    for page in sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')]):
        found += [f'{page.relative_to(ROOT)}: {fault}' for fault in find_long_sentences(page.read_text())]
    print('\n'.join(found))
    sys.exit(bool(found))


if __name__ == '__main__':
    main()
