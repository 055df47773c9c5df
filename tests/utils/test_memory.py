"""Memory that can still be had, as Linux tells it."""

import pytest

from coma_mm.utils.environment import available_memory

MACHINE = {'proc/meminfo': 'MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 4000 kB\n'}
V2 = 'sys/fs/cgroup/job/task'
V1 = 'sys/fs/cgroup/memory/job'


@pytest.mark.parametrize(
    'files, expected',
    [
        ({}, None),
        (MACHINE, 4_096_000),  # and not what is unused
        (
            {
                'proc/self/cgroup': '0::/job/task\n',
                f'{V2}/memory.max': 'max\n',
                'sys/fs/cgroup/job/memory.max': '1000000\n',  # of the group around ours
                'sys/fs/cgroup/job/memory.current': '900000\n',
                'sys/fs/cgroup/job/memory.stat': 'anon 5\ninactive_file 300000\n',
            },
            400_000,
        ),
        (
            {
                'proc/self/cgroup': '7:cpu:/x\n4:memory:/job\n',
                f'{V1}/memory.limit_in_bytes': '2000000',
                f'{V1}/memory.usage_in_bytes': '2100000',
                f'{V1}/memory.stat': 'total_inactive_file 0',
            },
            0,
        ),
    ],
)
def test_the_least_of_all_limits(tmp_path, files, expected):
    for name, text in {**(MACHINE if files else {}), **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == expected


def test_of_this_machine():
    assert available_memory() > 2**20
