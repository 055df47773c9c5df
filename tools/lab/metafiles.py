#!/usr/bin/env python
"""Write model-index.yml, configs/*/metafile.yml and the tables of docs/model_zoo.md.

``mim search`` and mmpretrain's ModelHub read the YAML files, people read the tables. All content comes from the configs
and their docstrings, the counts in docs/benchmarks, and the files in weights.
"""

import ast
import json
import re
import sys
from pathlib import Path

import _lab
import yaml
from mmengine.config import Config
from safetensors import safe_open

from coma_mm.cli.parser import ArgumentParser
from coma_mm.utils.files import atomic_write

FOLDERS = ('pretrain', 'cls', 'det', 'seg')
TASKS = dict(
    pretrain='Self-Supervised Pre-Training',
    cls='Image Classification',
    det='Instance Segmentation',
    seg='Semantic Segmentation',
)
DATA = dict(in1k='ImageNet-1k', coco='COCO', ade20k='ADE20K', digits="scikit-learn's digits", cifar10='CIFAR-10')
METRICS = dict(knn='kNN accuracy', probe='Linear probe accuracy', finetune_10='Accuracy with 10 % of the labels')
COLLECTION = dict(
    Name='CoMA',
    Metadata=dict(Architecture=['DyViT']),
    Paper=dict(
        Title='CoMA: Complementary Masking and Hierarchical Dynamic Multi-Window Self-Attention in a Unified '
        'Pre-training Framework',
        URL='https://arxiv.org/abs/2511.05929',
    ),
    README='README.md',
)
NOTE = '# Written by tools/lab/metafiles.py\n'
ZOO = 'docs/model_zoo.md'
TABLE = re.compile(r'(?<=<!-- configs/)(?P<folder>\w+)(?P<begin> -->\n\n).*?(?=\n\n<!-- end -->)', re.DOTALL)
RUN = re.compile(r'Hardware: (?P<hardware>[^.;,]+).*?Hours, result: (?P<result>.+)')


def describe(path: Path, counts: dict) -> dict:
    """Return a config's entry."""
    cfg, folder = Config.fromfile(path), path.parent.name
    train, data = cfg.get('train_cfg') or {}, path.stem.split('_')[-1].split('-')[0]
    metadata = {
        'Description': (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n\n')[0].replace('\n', ' '),
        'Epochs': train.get('max_epochs'),
        'Iterations': train.get('max_iters'),
        'Batch Size': (cfg.get('auto_scale_lr') or {}).get('base_batch_size'),
        'Training Data': DATA.get(data, 'any images'),
        **count(cfg.model, counts),
    }
    config = path.relative_to(_lab.ROOT).as_posix()
    weights, metrics = find_weights(config)
    return {
        'Name': path.stem,
        'In Collection': 'CoMA',
        'Metadata': {key: value for key, value in metadata.items() if value is not None},
        'Results': [dict(Task=TASKS[folder], Dataset=metadata['Training Data'], Metrics=metrics)] if weights else None,
        'Weights': weights,
        'Config': config,
    }


def find_weights(config: str) -> tuple[str | None, dict]:
    """Return the name of the weights whose card says that they were made by a config, and what they are worth."""
    for card in sorted((_lab.ROOT / 'weights').glob('*.md')):
        if f'pre-trained by `{config}`' in card.read_text():
            with safe_open(card.with_suffix('.safetensors'), 'pt') as file:
                worth = json.loads(file.metadata()['results']).get('trained', {}).get('qualities', {})
            return f'coma_mm://{card.stem}', {METRICS[key]: worth[key] for key in METRICS if key in worth}
    return None, {}


def count(model: dict, counts: dict) -> dict:
    """Return parameters and operations of the backbone on an image of 224 px, where they have been counted."""
    backbone = model.get('backbone') or {}
    if backbone.get('type') != 'coma_mm.DyViT' or {'attention', 'windows', 'kv_conv', 'patch_size'} & set(backbone):
        return {}
    arch, columns = backbone.get('arch', 'base'), counts['tables']['variants']['columns']
    if arch not in columns['parameters (M)']:
        return {}
    return {
        'Parameters': round(columns['parameters (M)'][arch] * 1e6),
        'FLOPs': round(columns['GMACs at 224 x 224'][arch] * 1e9),
    }


def tabulate(models: list[dict]) -> str:
    """Return the table of a folder's configs: what is known from their entries and from the text on top of them.

    Raises:
        ValueError: If the text of a config does not say on what it runs, and how long or with what result.
    """
    rows = ['| config | what | length | hardware | hours, result |', '|---|---|---|---|---|']
    for model in models:
        path, metadata = _lab.ROOT / model['Config'], model['Metadata']
        lengths = (f'{metadata[key]:,} {key.lower()}' for key in ('Epochs', 'Iterations') if key in metadata)
        run = RUN.search(' '.join((ast.get_docstring(ast.parse(path.read_text())) or '').split()))
        if run is None:
            raise ValueError(
                f'{model["Config"]} needs "Hardware: ..." and "Hours, result: ..." in the text on top of it'
            )
        what = metadata['Description'].replace('<', '&lt;')
        cells = [f'[{path.name}](../{model["Config"]})', what, next(lengths, ''), run['hardware'], run['result']]
        rows.append(f'| {" | ".join(cells)} |')
    return '\n'.join(rows)


def main() -> None:
    """Write."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing, fail if a file differs')
    check = parser.parse_args().check
    counts = json.loads((_lab.ROOT / 'docs/benchmarks/counts.json').read_text())
    contents: dict[str, dict] = {
        'model-index.yml': dict(Import=[f'configs/{folder}/metafile.yml' for folder in FOLDERS])
    }
    tables = {}
    for folder in FOLDERS:
        models = [describe(path, counts) for path in sorted((_lab.ROOT / 'configs' / folder).glob('*.py'))]
        collection = dict(Collections=[COLLECTION]) if folder == FOLDERS[0] else {}
        contents[f'configs/{folder}/metafile.yml'] = collection | dict(Models=models)
        tables[folder] = tabulate(models)
    texts = {name: NOTE + yaml.safe_dump(content, sort_keys=False, width=120) for name, content in contents.items()}
    page = (_lab.ROOT / ZOO).read_text()
    texts[ZOO] = TABLE.sub(lambda match: match['folder'] + match['begin'] + tables[match['folder']], page)
    stale = []
    for name, text in texts.items():
        path = _lab.ROOT / name
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            with atomic_write(path) as unfinished:
                unfinished.write_text(text)
    if check and stale:
        sys.exit(f'error: {", ".join(stale)} differ from configs and counts; run tools/lab/metafiles.py')
    print(f'written: {", ".join(stale) or "nothing, all is as it should be"}')


if __name__ == '__main__':
    _lab.run('metafiles', main)
