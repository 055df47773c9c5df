"""Evaluate a checkpoint: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from . import types
from .outputs import add_force, check_evaluators, check_folder, check_output, check_work_dir, find_files, find_roots
from .parser import make_parser


def parse_args() -> Namespace:
    """Parse the options of OpenMMLab's test.py."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', type=types.checkpoint_file, help='the checkpoint to evaluate')
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


def draw_predictions(cfg: Any, folder: str) -> None:
    """Turn on the toolbox's own hook for pictures of predictions; each of the three has other names for the same."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        sys.exit('error: --show-dir needs default_hooks.visualization in the config')
    folder = str(Path(folder).resolve())
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
    elif cfg.get('default_scope') == 'mmdet':
        hook.update(draw=True, test_out_dir=folder)
    else:
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder


def augment(cfg: Any) -> None:
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

    from ..checkpoints.writing import allow_replacing
    from ..engine.checks.data import explain_data
    from ..engine.runner.build import build_runner, prepare, require_matching_checkpoint
    from ..engine.runner.distributed import leave_distributed
    from ..export.following import follow_weights, take_backbone_of
    from ..utils.configs import type_name

    cfg = prepare(args)
    follow_weights(cfg, args.cfg_options or ())
    if not cfg.get('test_dataloader'):
        sys.exit(f'error: {args.config} has no test_dataloader, so there is nothing to evaluate')
    cfg.load_from, cfg.resume = args.checkpoint, False
    require_matching_checkpoint(cfg)
    if type_name((cfg.get('model') or {}).get('type')) == 'FeatureExtractor' and not any(
        name.startswith('model.backbone') for name in args.cfg_options or ()
    ):
        take_backbone_of(cfg, args.checkpoint, args.cfg_options or ())
    check_work_dir(cfg)
    roots = find_roots(cfg.test_dataloader)
    check_evaluators(cfg.get('test_evaluator'), 'test_evaluator', roots, args.force, '--force')
    if args.out:
        check_output(
            args.out, '--out', find_files([cfg.test_dataloader, cfg.get('test_evaluator')], ['', *roots]), args.force
        )
    if args.show_dir:
        check_folder(args.show_dir, roots, args.force)
        draw_predictions(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    runner = build_runner(cfg)
    if args.show_dir:
        allow_replacing(args.show_dir)
    if args.show_dir and runner.cfg.get('visualizer'):
        runner.cfg.visualizer.pop('save_dir', None)  # the config that is written belongs to other tests, too
    if args.out:
        kind = 'mmdet.DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
        runner.test_evaluator.metrics.append(METRICS.build(dict(type=kind, out_file_path=args.out)))
    with explain_data():
        runner.test()
    leave_distributed()
