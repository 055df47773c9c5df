"""Train a model: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

import sys
from argparse import Namespace

from ..engine.checks import explain_data
from ..engine.config_checks import check_batches
from ..engine.running import (
    build_runner,
    enable_mixed_precision,
    leave_distributed,
    prepare,
    prepare_resuming,
)
from .options import checkpoint_file, make_parser


def parse_args() -> Namespace:
    """Parse the options of OpenMMLab's train.py."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        type=lambda name: name if name == 'auto' else checkpoint_file(name),
        help='go on from this checkpoint; without a name from the last one in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision. OptimWrapper: fp16 with a scaled loss on the GPU, as in OpenMMLab; '
        'coma_mm.AutocastOptimWrapper, which has it on GPUs anyway: bf16 on the CPU, too; AmpOptimWrapper: as it is',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate checkpoints during training')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the actual batch size, linearly'
    )
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    cfg = prepare(args)
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if cfg.get('resume'):
        prepare_resuming(cfg, required=args.resume == 'auto')
    if args.amp:
        enable_mixed_precision(cfg)
    if args.no_validate:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            sys.exit('error: --auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config')
        cfg.auto_scale_lr.enable = True
    with explain_data():
        runner = build_runner(cfg)
        check_batches(runner)
        runner.train()
    leave_distributed()
