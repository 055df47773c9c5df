"""Data flows one way, masking -> mask_units -> ... -> coma; imports look back."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'coma_mm'
FLOW = [
    'reading',
    'text',
    'ranges',
    'archive',
    'unpickler',
    'builders',
    'torch_file',
    'bounded_building',
    'downloads',
    'run_state',
    'arguments',
    'masking',
    'files',
    'registry',
    'batch_norm_neck',
    'pretrained',
    'compiled',
    'mask_units',
    'dm_msa',
    'dyvit',
    'variants',
    'vit',
    'decoder',
    'reconstruction',
    'coma',
    'feature_extractor',
]
# Imported when it is asked for: a whole file (vit), or inside a function.
ON_DEMAND = {'vit': {'mmpretrain'}, 'pretrained': {'huggingface_hub', 'safetensors'}}
# What each folder may import of ours: itself and these.
FOLDERS = {
    'utils': {'files'},
    'checkpoints': {'utils', 'files'},
    'models': {'arguments', 'masking', 'registry', 'files', 'utils', 'checkpoints'},
    'datasets': {'arguments', 'masking', 'registry', 'files', 'utils'},
    'evaluation': {'arguments', 'masking', 'registry', 'utils', 'datasets', 'models'},
    'visualization': {'masking', 'registry', 'files', 'utils', 'evaluation', 'models'},
    'engine': {
        'arguments',
        'checkpoints',
        'registry',
        'files',
        'utils',
        'environment',
        'datasets',
        'evaluation',
        'visualization',
        'models',
    },
}
FOLDERS['export'] = {'version', 'engine', *FOLDERS['engine']}
FOLDERS['pretraining.py'] = {'recipe', 'export', *FOLDERS['export']}
FOLDERS['recipe.py'] = {'engine', 'environment', 'files'}
# Commands stand on all of it.
FOLDERS['cli'] = {'masking', 'pretraining', *FOLDERS['pretraining.py']}


def imports(file):
    """Yield (module, whether it is ours) for each import of a file, ours relative to the package."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.relative_to(PACKAGE).parts[: -node.level]
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield '.'.join([*base, *name.split('.')]).strip('.'), True
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.module.startswith('coma_mm')
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.name.startswith('coma_mm')


def test_models_import_upstream_only():
    for file in (PACKAGE / 'models').glob('*.py'):
        if file.stem == '__init__':
            continue
        for module, ours in imports(file):
            if ours:
                assert FLOW.index(module.split('.')[-1]) < FLOW.index(file.stem), f'{file.name} imports {module}'
            else:
                root = module.split('.')[0]
                assert root in {'torch', 'mmengine', 'numpy'} | sys.stdlib_module_names | ON_DEMAND.get(
                    file.stem, set()
                ), f'{file.name} imports {module}; models need torch and mmengine (and its numpy) only'


def test_folders_import_upstream_only():
    for folder, allowed in FOLDERS.items():
        place = PACKAGE / folder
        for file in [place] if place.is_file() else place.rglob('*.py'):
            for module, ours in imports(file):
                first = module.removeprefix('coma_mm.').split('.')[0]
                assert not ours or first in allowed | {folder}, f'{file} imports {module}'
