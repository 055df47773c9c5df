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
# Modules that read files, and the rows of the table that they are in.
READERS = {
    'checkpoints/downloads.py': ['checkpoint'],
    'checkpoints/torch_file.py': ['checkpoint'],
    'checkpoints/pretrained.py': ['checkpoint'],
    'checkpoints/reading.py': ['checkpoint'],
    'models/variants.py': ['checkpoint'],
    'models/architectures.py': ['checkpoint'],
    'starting.py': ['checkpoint'],
    'checkpoints/finding.py': ['checkpoint', '`manifest.json`'],
    'engine/runner/config_files.py': ['config'],
    'engine/runner/build.py': ['config'],
    'engine/runner/run_folder.py': ['`options.json`'],
    'utils/folder_lock.py': ['`.lock`, ids of loggers'],
    'engine/runner/loggers.py': ['`.lock`, ids of loggers'],
    'pretraining.py': ['config', 'checkpoint'],
    'finetuning.py': ['config'],
    'visualization/report.py': ['log, pictures and config of a run'],
    'visualization/run_files.py': ['log, pictures and config of a run'],
    'visualization/serve.py': ['log, pictures and config of a run'],
    'datasets/cifar.py': ['CIFAR-10'],
    'datasets/loading.py': ['image'],
    'datasets/tiff.py': ['image'],
    'datasets/random_resized_crop.py': ['image'],
    'datasets/shards.py': ['shard and its index', 'image'],
    'datasets/coco_file.py': ['list of images (`.txt`), annotations (`.json`)'],
    'datasets/mask_folder.py': ['image', 'list of images (`.txt`)'],
    'datasets/finding.py': ['list of images (`.txt`)'],
    'datasets/listings.py': ['`listings.json`'],
    'datasets/image_headers.py': ['image'],
    'datasets/value_range.py': ['image'],
    'utils/manifest.py': ['`manifest.json`'],
    'utils/reading.py': [],  # lent to those above
    'utils/files.py': [],  # written, and synced
    'utils/environment.py': [],  # of the system
    'export/weights.py': ['checkpoint'],
    'export/following.py': ['checkpoint'],
    'export/source.py': ['config'],
    'export/extractor.py': ['checkpoint', 'config'],
    'export/graph.py': [],  # what has just been written
    'planning.py': [],  # of the system
    'cli/outputs.py': [],  # whether what is to be replaced is one of ours
    'cli/errors.py': [],  # a log that is written
}


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
    commands = {name for name in found if name.startswith('cli/')} - {*READERS}
    for name in commands:  # which read by what is above, and nothing else
        assert found[name] <= {'ZipFile', 'read_checkpoint', 'read_config', 'read_bytes', 'open', 'load', 'fromfile'}, (
            name,
            found[name],
        )
    missing = {*found} - {*READERS} - commands
    assert not missing, f'SECURITY.md and this table do not say what {missing} read'


def test_the_table_is_in_the_document():
    rows = [line for line in SECURITY.splitlines() if line.startswith('|')]
    for kinds in READERS.values():
        for kind in kinds:
            assert any(row.startswith(f'| {kind}') for row in rows), f'SECURITY.md has no row {kind}'
