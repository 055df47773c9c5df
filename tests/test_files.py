"""Files for users are written whole or not at all."""

import re
from pathlib import Path

import pytest

from coma_mm.utils.files import whole_folder, write_together

PACKAGE = Path(__file__).parents[1] / 'coma_mm'
WRITES = re.compile(r'\.write_text\(|\.write_bytes\(|savefig\(|torch\.save\(|np\.savez?\(|save_file\(|open\([^()]*, .w')
ELSEWHERE = [  # into the kernel, into memory, into a name or a folder that became whole, for torchrun; in a sentence
    '/proc/self/',
    'torch.save(dict(state_dict=weights, meta=meta), content)',
    "figure.savefig(file, format='svg'",
    "open(number, 'w', buffering=1, closefd=False)",
    'path.write_bytes(save(weights, metadata=meta))',
    'tarfile.open(shards[-1]',
    'file.write_text(json.dumps(dict(message=content)))',
    "Path(file).write_text(text, encoding='utf-8')",  # of mmengine's own Config.dump, whose callers lend the name
    'torch.save(torch.load(PATH',
]


def test_every_file_is_written_whole():
    found = [
        f'{file.relative_to(PACKAGE)}:{number}: {line.strip()}'
        for file in sorted(PACKAGE.rglob('*.py'))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if WRITES.search(line) and 'unfinished' not in line and not any(text in line for text in ELSEWHERE)
    ]
    assert not found, 'not through coma_mm.utils.files.atomic_write:\n' + '\n'.join(found)


def test_files_are_written_together(tmp_path):
    texts = {tmp_path / 'a': 'new', tmp_path / 'folder/b': 'new'}
    (tmp_path / 'a').write_text('old')
    with pytest.raises(UnicodeEncodeError):
        write_together(texts | {tmp_path / 'c': '\ud800'})
    assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['a']
    assert (tmp_path / 'a').read_text() == 'old'
    write_together(texts)
    assert [path.read_text() for path in texts] == ['new', 'new']


@pytest.mark.parametrize('name', ['n' * 251 + '.txt', 'é' * 127, 'n' * 255])
def test_names_may_have_255_bytes(name, tmp_path):
    write_together({tmp_path / name: 'whole'})
    with whole_folder(tmp_path / 'folder' / name) as folder:
        (folder / 'file').touch()
    assert [path.name for path in tmp_path.glob('*')] in ([name, 'folder'], ['folder', name])
