"""Data flows one way, masking -> mask_units -> ... -> coma; imports point down."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'coma_mm'
FLOW = """
    reading text ranges archive unpickler builders torch_file bounded_building older_names downloads run_state
    configs arguments environment masking files registry batch_norm_neck settings pretrained compiled mask_units
    attention layers architectures dyvit variants masked_vit masked_hiera decoders pixel_target alignment
    distillation evaluation_branch coma feature_extractor
""".split()
# Imported when it is asked for: a whole file (masked_vit), or inside a function.
ON_DEMAND = {'masked_hiera': {'timm'}, 'masked_vit': {'mmpretrain'}, 'pretrained': {'huggingface_hub', 'safetensors'}}
# Each room imports from its own floor and those above it in this list; root modules are rooms, too.
FLOORS = [
    ['utils', 'masking', 'registry', 'version', 'settings'],
    ['checkpoints', 'datasets'],
    ['models', 'timm'],
    ['evaluation'],
    ['engine.common'],
    ['engine.checks', 'engine.optimizers'],
    ['visualization'],
    ['engine.runner'],
    ['engine.hooks'],
    ['engine'],
    ['recipe', 'export'],
    ['given_weights', 'trial'],
    ['planning'],
    ['running'],
    ['comparing', 'configuring', 'finetuning', 'pretraining'],
    ['cli', '__main__'],
]


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
                needed = {'torch', 'mmengine', 'numpy'} | sys.stdlib_module_names | ON_DEMAND.get(file.stem, set())
                assert root in needed, f'{file.name} imports {module}; models need torch, mmengine and its numpy only'


def find_floor(module):
    """Return the floor of a module below the package, by the longest name in the list."""
    parts = module.split('.')
    for length in range(len(parts), 0, -1):
        for number, rooms in enumerate(FLOORS):
            if '.'.join(parts[:length]) in rooms:
                return number
    raise AssertionError(f'{module} is in none of the rooms')


def test_imports_point_down():
    for file in PACKAGE.rglob('*.py'):
        path = file.relative_to(PACKAGE).with_suffix('')
        if path.name == '__init__' and path.parent == Path():
            continue  # imports on demand
        floor = find_floor('.'.join(path.parts[: -1 if path.name == '__init__' else None]))
        for module, ours in imports(file):
            if ours and module not in ('', 'coma_mm'):
                assert find_floor(module.removeprefix('coma_mm.')) <= floor, f'{file} imports {module}'


def test_nothing_imports_the_laboratory():
    for file in PACKAGE.rglob('*.py'):
        for module, _ in imports(file):
            root = module.split('.')[0]
            assert root not in {'tools', 'lab', 'studies', 'benchmarks', 'tests'}, f'{file} imports {module}'


# ---- tricks that the next release of a library breaks ----


def is_attribute(node, *names):
    return isinstance(node, ast.Attribute) and node.attr in names


def assigned(node):
    """Return what a statement assigns to."""
    return [target for part in getattr(node, 'targets', ()) for target in ast.walk(part)]


def is_long(node):
    """Say whether a function has over 60 lines; the docstring of an ``__init__`` does not count."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    body = node.body[ast.get_docstring(node) is not None :] if node.name == '__init__' else [node]
    return bool(body) and node.end_lineno - min(node.lineno, body[0].lineno) >= 60


# What a node of the code may not be, and the files that have one of it, with the reason beside it.
TRICKS = {
    'reads the variables of a frame': (
        lambda node: is_attribute(node, 'f_locals'),
        ['engine/checks/data.py'],
    ),
    'ends the process outside of a command': (
        lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in ('sys.exit', 'exit', 'SystemExit'),
        ['cli/'],
    ),
    "replaces a method of another library's object": (
        lambda node: any(is_attribute(target, 'forward', '__getitems__', 'train_step') for target in assigned(node)),
        ['datasets/seeding.py', 'engine/optimizers/autocast.py'],
    ),
    'gives a module another init_cfg': (
        lambda node: any(
            is_attribute(target, 'init_cfg') and ast.unparse(target.value) != 'self' for target in assigned(node)
        ),
        ['checkpoints/pretrained.py'],
    ),
    'assigns behind the back of an object': (
        lambda node: any('vars(' in ast.unparse(target) for target in assigned(node)),
        ['datasets/seeding.py', 'engine/runner/failures.py'],
    ),
    'has a function of over 60 lines': (is_long, []),
}


@pytest.mark.parametrize('trick', TRICKS)
def test_no_tricks(trick):
    is_one, known = TRICKS[trick]
    for file in PACKAGE.rglob('*.py'):
        name = file.relative_to(PACKAGE).as_posix()
        lines = [node.lineno for node in ast.walk(ast.parse(file.read_text())) if is_one(node)]
        assert not lines or name.startswith(tuple(known)), f'{name}, line {lines[0]}: {trick}'
