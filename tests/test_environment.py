"""Settings of the tools before torch is loaded, in fresh interpreters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coma_mm.utils.environment import has_fast_bf16

CODE = """
import os, sys
from coma_mm.utils.environment import prepare_cpu
prepare_cpu()
assert 'torch' not in sys.modules
before = [line for line in open('/proc/self/status') if line.startswith('VmRSS')][0].split()[1]
block = bytearray(300 * 2**20)
block[:] = b'x' * len(block)
del block
after = [line for line in open('/proc/self/status') if line.startswith('VmRSS')][0].split()[1]
print(os.environ['OMP_WAIT_POLICY'], int(after) - int(before) > 250 * 1024)
"""


@pytest.mark.parametrize(
    ('variables', 'printed'),
    [
        ({}, 'PASSIVE True'),
        (dict(OMP_WAIT_POLICY='ACTIVE', MALLOC_TRIM_THRESHOLD_='131072'), 'ACTIVE False'),
    ],
)
def test_threads_sleep_and_memory_is_kept_unless_the_user_says_otherwise(variables, printed):
    own = ('OMP_WAIT_POLICY', 'MALLOC_')
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)} | variables
    env['CUDA_VISIBLE_DEVICES'] = ''
    command = [sys.executable, '-c', CODE]
    root = Path(__file__).parents[1]
    result = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split() == printed.split()


@pytest.mark.parametrize(
    ('flags', 'fast'),
    [('fma avx512_bf16', True), ('amx_bf16 amx_tile', True), ('avx512f avx512_vnni', False), (None, False)],
)
def test_bf16_is_fast_where_the_cpu_says_so(flags, fast, tmp_path):
    info = tmp_path / 'cpuinfo'
    if flags is not None:  # there is no such file but on Linux
        info.write_text(f'model name\t: X\nflags\t\t: {flags}\nbugs\t\t: none\n')
    assert has_fast_bf16(info) is fast
