"""Train a model: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

import sys
from argparse import Namespace

from ..engine.checks import explain_data
from ..engine.config_checks import check_batches
from ..engine.hooks import RunInterrupted
from ..engine.loggers import LOGGERS
from ..engine.running import (
    build_runner,
    enable_mixed_precision,
    leave_distributed,
    prepare,
    prepare_resuming,
)
from ..engine.work_dir import ReplaceResultsHook, find_results_to_replace, lock_work_dir
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
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the results of an earlier run in the work dir'
    )
    parser.add_argument(
        '--save-minutes',
        type=float,
        default=0,
        metavar='M',
        help='save a checkpoint every M minutes, within epochs too, and keep the newest of these',
    )
    parser.add_argument('--log', nargs='+', choices=LOGGERS, help='log there as well: curves and pictures')
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
    results = find_results_to_replace(cfg, args.overwrite)
    lock = lock_work_dir(cfg.work_dir)  # noqa: F841 - for as long as this process lives
    try:
        with explain_data():
            runner = build_runner(cfg)
            check_batches(runner)
            runner.register_hook(ReplaceResultsHook(results))
            runner.train()
    except RunInterrupted as end:
        leave_distributed(end.code)
        raise
    leave_distributed()
