"""SECURITY.md lists every kind of file that is read, and what it can do."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / 'coma_mm'
SECURITY = (PACKAGE.parent / 'SECURITY.md').read_text()
# Calls that read a file.
READING = {
    *('open', 'open_regular', 'read_text', 'read_bytes', 'read_json', 'fromfile', 'load', 'pread', 'safe_open'),
    *('ZipFile', 'get_local_path', 'copyfile', 'urlopen', 'read_checkpoint', 'read_torch_file', 'read_config'),
}
# Modules that read files, by the row of the table that they are in.
READERS = {
    'checkpoint': (
        'checkpoints/downloads checkpoints/torch_file checkpoints/pretrained checkpoints/reading models/variants '
        'checkpoints/archive '
        'models/architectures given_weights checkpoints/finding running export/weights export/following '
        'export/extractor'
    ),
    'config': ('engine/runner/config_files engine/runner/build running finetuning export/source export/extractor'),
    '`options.json`': 'engine/runner/run_folder',
    '`.lock`, ids of loggers': 'utils/folder_lock engine/runner/loggers',
    'log, pictures and config of a run': 'visualization/report visualization/run_files visualization/serve',
    'CIFAR-10': 'datasets/cifar',
    'image': (
        'datasets/loading datasets/tiff datasets/random_resized_crop datasets/mask_folder datasets/image_headers '
        'datasets/value_range datasets/shards'
    ),
    'shard and its index': 'datasets/shards',
    'list of images (`.txt`), annotations (`.json`)': 'datasets/coco_file',
    'list of images (`.txt`)': 'datasets/mask_folder datasets/finding',
    '`listings.json`': 'datasets/listings',
    '`manifest.json`': 'utils/manifest checkpoints/finding',
}
# Lent to those above; written and synced; of the system; what has just been written; what is to be replaced; a log.
OTHERS = 'utils/reading utils/files utils/environment export/graph trial cli/outputs cli/errors'
KNOWN = {f'{module}.py' for modules in (*READERS.values(), OTHERS) for module in modules.split()}


def read_calls(file):
    """Yield the names of calls in a file that read files."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, 'id', None) or getattr(node.func, 'attr', None)
            if name in READING:
                yield name


def test_every_module_that_reads_is_in_the_table():
    found = {file.relative_to(PACKAGE).as_posix(): set(read_calls(file)) for file in PACKAGE.rglob('*.py')}
    found = {name: calls for name, calls in found.items() if calls}
    commands = {name for name in found if name.startswith('cli/')} - KNOWN
    lent = {'ZipFile', 'read_checkpoint', 'read_config', 'read_bytes', 'open', 'load', 'fromfile'}
    assert not {name: found[name] - lent for name in commands if found[name] - lent}
    missing = {*found} - KNOWN - commands
    assert not missing, f'SECURITY.md and this table do not say what {missing} read'


def test_the_table_is_in_the_document():
    rows = [line for line in SECURITY.splitlines() if line.startswith('|')]
    for kind in READERS:
        assert any(row.startswith(f'| {kind}') for row in rows), f'SECURITY.md has no row {kind}'
