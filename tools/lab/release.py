#!/usr/bin/env python
"""Make a file of pre-trained weights for others: encoder and decoder in float16, and a page with their results.

    tools/lab/release.py work_dirs/RUN dyvit-p_cifar10 --data "CIFAR-10" --results docs/evidence/method.jsonl:copy-0

writes weights/NAME.safetensors and weights/NAME.md (data, results, licence, use). Weights in the package's folder
``weights`` are loaded as coma_mm://NAME.
"""

import hashlib
import json
from argparse import Namespace
from pathlib import Path

import _lab
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from studies.grid import read_lines, read_study
from studies.training import find_latest
from torch import Tensor, nn

from coma_mm.checkpoints.settings import describe_backbone
from coma_mm.cli import types
from coma_mm.cli.parser import ArgumentParser
from coma_mm.engine import load_exactly
from coma_mm.export.weights import write_safetensors
from coma_mm.models import read_checkpoint
from coma_mm.models.coma import eval_mode
from coma_mm.utils.files import atomic_write
from coma_mm.version import __version__

LIMIT_MB = 10
PARTS = ('backbone.', 'decoder.', 'fuse')  # of a pre-trained model; not the evaluation branch, a copy of the backbone
CARD = """# {name}

{arch} ({parameters:.2f} M parameters) with its decoder, pre-trained by `{config}` on {data}; {images}.

| | these weights | random weights |
|---|---|---|
{rows}

Float16, {size:.1f} MB, sha256 `{sha256}`. Features differ from those in float32 by {difference:.2g} of their norm.
Written by `tools/lab/release.py`, coma_mm {version}{commit}.

    init_cfg=dict(type='coma_mm.Pretrained', checkpoint='coma_mm://{name}')
    tools/visualize.py {path} coma_mm://{name} IMAGES

Licence: the weights have the licence of this package (Apache 2.0). They were computed from {data}.
The data have terms of their own: {terms}
"""


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('run', type=types.folder, help='work dir of a pre-training run')
    parser.add_argument('name', type=types.text, help='such as dyvit-p_cifar10')
    parser.add_argument('--data', required=True, type=types.text, metavar='TEXT', help='what it was trained on')
    parser.add_argument(
        '--terms', type=types.text, default='see its source.', metavar='TEXT', help="the data's terms of use"
    )
    parser.add_argument(
        '--results', type=types.text, metavar='FILE.jsonl:CELL', help='a line of results, and another of random weights'
    )
    parser.add_argument(
        '--config', type=types.text, help='what the card calls the config; default: its name in the run'
    )
    parser.add_argument('--out', type=types.output_folder, default='weights', help='folder (%(default)s)')
    args = parser.parse_args()
    args.out = Path(args.out)
    return args


def main() -> None:
    """Write the files."""
    args = parse_args()
    release(args)


def release(args: Namespace) -> None:
    """Write the files, after a look at what float16 changes.

    Raises:
        FileNotFoundError: If the run has no checkpoint or no config.
        ValueError: If the model is none of pre-training, or the file would be larger than it should.
    """
    config = next(iter(sorted(args.run.glob('*.py'))), None)
    if config is None:
        raise FileNotFoundError(f'there is no config in {args.run}')
    cfg, path = Config.fromfile(config), find_latest(args.run)
    checkpoint = read_checkpoint(path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build({**cfg.model, 'compile': False} if 'compile' in cfg.model else cfg.model)
    if not hasattr(model, 'decoder'):
        raise ValueError(f'{config} is no config of pre-training: its model has no decoder')
    load_exactly(model, checkpoint, path)
    weights = {name: value for name, value in model.state_dict().items() if name.startswith(PARTS)}
    halves = {
        name: value.half().contiguous() if value.is_floating_point() else value for name, value in weights.items()
    }
    difference = compare(model, halves)
    results = read_results(args.results)
    meta = dict(
        backbone=describe_backbone(cfg.model.backbone.to_dict(), model.backbone),
        scope=cfg.default_scope,
        model=json.dumps(cfg.model.to_dict()),
        results=json.dumps(results),
        data=args.data,
        licence='Apache-2.0',
        coma_mm=__version__,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f'{args.name}.safetensors'
    with atomic_write(file) as unfinished:
        write_safetensors(unfinished, halves, meta)
        size = unfinished.stat().st_size / 1e6
        if size > LIMIT_MB:
            raise ValueError(f'{args.name} would have {size:.1f} MB, more than {LIMIT_MB}: too much for the repository')
    card = args.out / f'{args.name}.md'
    trained = results.get('trained', {})
    with atomic_write(card) as unfinished:
        unfinished.write_text(
            CARD.format(
                name=args.name,
                arch=f'{type(model.backbone).__name__} {cfg.model.backbone.get("arch", "")}'.strip(),
                parameters=sum(p.numel() for p in model.backbone.parameters()) / 1e6,
                config=args.config or config.name,
                path=args.config or config.name,
                data=args.data,
                terms=args.terms,
                images=f'{trained["images"]:,} images seen' if trained else 'no results were given',
                rows='\n'.join(rows_of(results)) or '| not measured | | |',
                size=size,
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                difference=difference,
                version=__version__,
                commit=f', commit {trained["commit"]}' if trained.get('commit') else '',
            )
        )
    print(f'{file}, {card}: {size:.1f} MB; float16 changes features by {difference:.2g} of their norm')


def compare(model: nn.Module, halves: dict[str, Tensor]) -> float:
    """Load the halves into the model; return how far that moves the last features of random images, over their norm."""
    side = model.backbone.img_size
    images = torch.randn(8, model.backbone.in_channels, *side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), eval_mode(model):
        before = model.extract_feat(images)[-1]
        model.load_state_dict(halves, strict=False)
        after = model.extract_feat(images)[-1]
    return ((after - before).norm() / before.norm()).item()


def read_results(source: str | None) -> dict:
    """Return the lines of ``FILE.jsonl:CELL`` and of the random weights of the same seed.

    Raises:
        ValueError: If there is no such line.
    """
    if source is None:
        return {}
    file, _, title = source.rpartition(':')
    lines = {f'{line["cell"]}-{line["seed"]}': line for line in read_lines(Path(file))}
    if title not in lines:
        raise ValueError(f'{file} has no results of {title!r}; it has {", ".join(lines) or "none"}')
    random = lines.get(f'random-{title.rpartition("-")[2]}')
    return dict(trained=lines[title], **dict(random=random) if random else {})


def rows_of(results: dict) -> list[str]:
    """Return the rows of the card's table: what the study's own report shows, under the same names."""
    if not results:
        return []
    trained, random = (results.get(key, {}).get('qualities', {}) for key in ('trained', 'random'))
    titles = read_study(results['trained']['study']).report.qualities
    return [
        f'| {title} | {trained[key]:g} | {f"{random[key]:g}" if key in random else ""} |'
        for key, title in titles.items()
        if key in trained
    ]


if __name__ == '__main__':
    _lab.run('release', main)
