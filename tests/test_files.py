"""Files for users are written whole or not at all."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'coma_mm'
WRITES = re.compile(r'\.write_text\(|\.write_bytes\(|savefig\(|torch\.save\(|np\.savez?\(|save_file\(|open\([^()]*, .w')
NOT_FOR_USERS = re.compile(r'/proc/|tarfile\.open\(shards\[-1\]|PATH, weights_only')  # in a whole folder; in a sentence


def test_every_file_is_written_whole():
    found = [
        f'{file.relative_to(PACKAGE)}:{number}: {line.strip()}'
        for file in sorted(PACKAGE.rglob('*.py'))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if WRITES.search(line) and 'unfinished' not in line and not NOT_FOR_USERS.search(line)
    ]
    assert not found, 'not through coma_mm.files.whole_file:\n' + '\n'.join(found)
