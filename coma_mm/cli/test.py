"""Evaluate a checkpoint: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import types
from .options import make_parser
from .outputs import add_force, check_folder, check_output, find_files, find_roots

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> Namespace:
    """Parse the options of OpenMMLab's test.py."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', type=types.checkpoint_file)
    parser.add_argument(
        '--out',
        type=types.output_path('.pkl', '.pickle'),
        metavar='FILE.pkl',
        help='write the predictions to this file, a pickle',
    )
    parser.add_argument('--show-dir', type=types.output_folder, help='draw the predictions into this folder')
    parser.add_argument(
        '--tta', action='store_true', help="test-time augmentation with the config's tta_model and tta_pipeline"
    )
    add_force(parser)
    args = parser.parse_args()
    if args.out:
        check_output(args.out, '--out', [args.config, args.checkpoint], args.force)
    return args


def draw_predictions(cfg: 'Config', folder: str) -> None:
    """Turn on the toolbox's own hook for pictures of predictions; each of the three has other names for the same."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        sys.exit('error: --show-dir needs default_hooks.visualization in the config')
    folder = str(Path(folder).resolve())
    if cfg.default_scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    elif cfg.default_scope == 'mmdet':
        hook.update(draw=True, test_out_dir=folder)
    else:
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder


def take_backbone_of(cfg: 'Config', checkpoint: str, options: Iterable[str] = ()) -> None:
    """Have features extracted by the backbone that the checkpoint was trained with, of images as it was trained on.

    Args:
        cfg: A config of ``coma_mm.FeatureExtractor``.
        checkpoint: Its backbone, image size and normalisation replace those of the config, as far as it says them.
        options: Names of settings that stay as they are, and what is in them.
    """
    from mmengine.config import ConfigDict

    from ..export.source import check_types, find_backbone, find_normalisation
    from ..models import read_checkpoint

    try:
        read = read_checkpoint(checkpoint)
        backbone, scope, _ = find_backbone(read, None)
    except ValueError:  # bare weights say nothing: the config's it is
        return
    check_types(backbone, scope)
    ours = {**cfg.model.backbone}
    different = {
        name: value
        for name, value in backbone.items()
        if name in ('arch', 'img_size', 'patch_size') and ours.get(name) != value
    }
    if different:
        print(
            f'the backbone is that of {checkpoint}: {", ".join(f"{k}={v}" for k, v in different.items())}', flush=True
        )
    cfg.model.backbone = ConfigDict({**backbone, '_scope_': scope})
    if not any('pipeline' in name for name in options):
        fit_pipelines(cfg, read, ours.get('img_size', 224), backbone.get('img_size', 224))
    if not any('data_preprocessor' in name for name in options):
        known = {name: json.loads(value) for name, value in find_normalisation(read, None).items()}
        if known.get('mean') and cfg.model.get('data_preprocessor'):
            cfg.model.data_preprocessor.update(mean=known['mean'], std=known['std'])


def fit_pipelines(cfg: 'Config', checkpoint: dict, before: int | Sequence[int], size: int | Sequence[int]) -> None:
    """Have the pipelines for tests load images as a checkpoint says, and scale them to its size if that is a square."""
    from ..engine.common import find_steps, type_name
    from ..export.source import find_normalisation

    loading = {name: json.loads(value) for name, value in find_normalisation(checkpoint, None).items()}
    loading = {name: loading[name] for name in ('channels', 'value_range') if loading.get(name) is not None}
    (old, _), (new, width) = (2 * (one,) if isinstance(one, int) else tuple(one) for one in (before, size))
    steps = find_steps([cfg.test_dataloader, cfg.get('test_cfg')], ('LoadImage', 'ResizeEdge', 'CenterCrop'))
    for step in {id(step): step for step in steps}.values():
        kind = type_name(step['type'])
        if kind == 'LoadImage':
            step.update(loading)
        elif new != width:
            continue
        elif kind == 'ResizeEdge':
            step['scale'] = round(step['scale'] * new / old)
        elif step['crop_size'] == old:
            step['crop_size'] = new


def augment(cfg: 'Config') -> None:
    """Wrap the model and exchange the pipeline for test-time augmentation."""
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        sys.exit('error: --tta needs tta_model and tta_pipeline in the config')
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline


def main() -> None:
    """Test."""
    args = parse_args()
    from mmengine.registry import METRICS

    from ..engine.checks.data import explain_data
    from ..engine.common import type_name
    from ..engine.runner.build import build_runner, prepare, require_matching_checkpoint
    from ..engine.runner.distributed import leave_distributed

    cfg = prepare(args)
    if not cfg.get('test_dataloader'):
        sys.exit(f'error: {args.config} has no test_dataloader, so there is nothing to evaluate')
    cfg.load_from, cfg.resume = args.checkpoint, False
    require_matching_checkpoint(cfg)
    if type_name((cfg.get('model') or {}).get('type')) == 'FeatureExtractor' and not any(
        name.startswith('model.backbone') for name in args.cfg_options or ()
    ):
        take_backbone_of(cfg, args.checkpoint, args.cfg_options or ())
    roots = find_roots(cfg.test_dataloader)
    if args.out:
        check_output(
            args.out, '--out', find_files([cfg.test_dataloader, cfg.get('test_evaluator')], ['', *roots]), args.force
        )
    if args.show_dir:
        check_folder(args.show_dir, '--show-dir', roots, args.force)
        draw_predictions(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    runner = build_runner(cfg)
    if args.out:
        kind = 'mmdet.DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
        runner.test_evaluator.metrics.append(METRICS.build(dict(type=kind, out_file_path=args.out)))
    with explain_data():
        runner.test()
    leave_distributed()
