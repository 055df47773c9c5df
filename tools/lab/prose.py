#!/usr/bin/env python
"""Check the prose of docstrings and pages: first words of docstrings, length of sentences, reading ease of pages.

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
CLAUSES = {'What', 'How', 'Whether', 'Where', 'Who', 'Which', 'When', 'That', 'Of', 'As', 'Those', 'Have'}
LONGEST = 30  # words of a sentence
EASE = 55  # of each page, by Flesch's formula: plain English for pupils of 15
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
    """Yield what to say of sentences that are too long."""
    for sentence in read_sentences(text):
        words = re.findall(r'[^\W\d_]{2,}', sentence)
        if len(words) > LONGEST:
            yield f'a sentence of {len(words)} words, of {LONGEST} at most: {" ".join(sentence.split())[:60]} ...'


def read_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; tables, lists and code have none."""
    for paragraph in re.split(r'\n\s*\n', re.sub(r'```.*?```', '', text, flags=re.S)):
        if not re.match(r'\s{4}|\s*[|#<`*-]|\s*\d+\.', paragraph):
            plain = re.sub(r'<!--.*?-->|\[([^]]*)\]\([^)]*\)', r'\1', paragraph, flags=re.S)
            yield from re.split(r'(?<=[.:;!?])\s', plain)


def find_hard_reading(text: str) -> Iterator[str]:
    """Yield what to say of a page whose Flesch reading ease is low; groups of vowels count as syllables."""
    sentences = [re.sub(r'`[^`]*`', 'it', sentence) for sentence in read_sentences(text)]
    words = [word.lower() for sentence in sentences for word in re.findall(r"[A-Za-z]+(?:'[a-z]+)?", sentence)]
    if words:
        vowels = (re.findall('[aeiouy]+', re.sub('(?<=[a-z]{2})(?:e|es|ed)$', '', word)) for word in words)
        syllables = sum(max(1, len(groups)) for groups in vowels)
        ease = 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * syllables / len(words)
        if ease < EASE:
            yield f'a reading ease of {ease:.0f}, of {EASE} at least: shorter sentences, shorter words'


def main() -> None:
    """Print all faults; fail if there is one."""
    found = []
    for folder in ('coma_mm', 'configs', 'tools', 'tests'):
        for file in sorted((ROOT / folder).rglob('*.py')):
            for line, text in read_docstrings(file):
                found += [f'{file.relative_to(ROOT)}:{line}: {fault}' for fault in find_faults(text)]
    for page in sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')]):
        text = page.read_text()
        found += [
            f'{page.relative_to(ROOT)}: {fault}' for fault in (*find_long_sentences(text), *find_hard_reading(text))
        ]
    print('\n'.join(found))
    sys.exit(bool(found))


if __name__ == '__main__':
    main()
