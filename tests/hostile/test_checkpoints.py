"""A checkpoint of a stranger acts on nothing, and takes no more memory or time than its size is worth."""

import os
import resource
import signal
import zipfile

import pytest
from pickles import OLDER, PICKLES, ZIPS, write

from coma_mm.checkpoints.finding import is_whole
from coma_mm.checkpoints.reading import get_state_dict
from coma_mm.models import read_checkpoint

ATTACKS = {
    **{f'pickle: {name}': attack for name, attack in PICKLES.items()},
    **{f'older: {name}': attack for name, attack in OLDER.items()},
    **{f'zip: {name}': attack for name, attack in ZIPS.items()},
}


def in_a_child(path):
    """Read a checkpoint with 1 GiB more memory and 10 seconds; return what is answered."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            pages = int(open('/proc/self/statm').read().split()[0])
            limit = pages * resource.getpagesize() + 2**30
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            signal.setitimer(signal.ITIMER_PROF, 10)  # of this process: other work takes nothing from it
            signal.alarm(100)  # of what only waits
            try:
                get_state_dict(read_checkpoint(path))
                answer = 'read'
            except ValueError as error:
                answer = str(error)
            os.write(writing, answer.encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text or 'no answer: out of memory, time or luck'


@pytest.mark.parametrize('name', ATTACKS)
def test_files_made_to_harm(name, tmp_path):
    content, expected = ATTACKS[name]
    path = tmp_path / 'x.pth'
    if name.startswith('pickle'):
        write(path, content.replace(b'{ran}', b'xxran'))
    else:
        path.write_bytes(content)
    os.chdir(tmp_path)
    answer = in_a_child(str(path))
    assert (expected or 'read') in answer and '\n' not in answer
    assert os.listdir(tmp_path) == ['x.pth']


@pytest.mark.parametrize('kind', ['pipe', 'device', 'bomb'])
def test_a_file_is_looked_at_before_it_is_checked(kind, tmp_path):
    path = tmp_path / 'epoch_9.pth'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    else:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive, archive.open('x/data.pkl', 'w') as part:
            for _ in range(100):
                part.write(bytes(2**20))
    assert not is_whole(path)
    with pytest.raises((ValueError, FileNotFoundError)):
        read_checkpoint(path)


def test_weights_in_a_circle():
    wrapped = {}
    wrapped['state_dict'] = wrapped
    assert get_state_dict(wrapped) == {}
