"""Train a model: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

import os
import sys
from argparse import Namespace

from ..settings import LOGGERS
from ..utils.folder_lock import lock_work_dir, require_unlocked
from ..utils.paths import short_path
from ..utils.text import one_line
from . import types
from .outputs import check_evaluators, check_work_dir, find_roots
from .parser import make_parser


def parse_args() -> Namespace:
    """Parse the options of OpenMMLab's train.py."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        type=types.checkpoint_or_auto,
        help='resume from this checkpoint; without a name from the newest in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision. OptimWrapper: fp16 with a scaled loss on GPUs, as in OpenMMLab. '
        'coma_mm.AutocastOptimWrapper: bf16 on CPUs too (on GPUs it always has mixed precision). AmpOptimWrapper: no '
        'change',
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
        type=types.number(0, 10**6),
        default=0,
        metavar='M',
        help='save a checkpoint every M minutes, within epochs too, and keep the newest of these',
    )
    parser.add_argument('--log', nargs='+', choices=LOGGERS, help='send curves and pictures to these loggers as well')
    return parser.parse_args()


# Options, with defaults, that a resumed run takes over from its start.
KEPT = dict(amp=False, no_validate=False, auto_scale_lr=False, save_minutes=0, log=None)


def take_up_options(args: Namespace) -> dict:
    """Recall the options that a resumed run was started with; those given now come on top. Return them all."""
    from ..engine.runner.config_files import default_work_dir, read_config
    from ..engine.runner.run_folder import read_settings_again, recall_options

    texts, again, flags = getattr(args, 'option_texts', []), [], []
    if args.resume:
        cfg = read_config(args.config, args.cfg_options, fit=False)  # it is read again, with all options
        work_dir = os.path.expanduser(args.work_dir or cfg.get('work_dir') or default_work_dir(args.config))
        kept = recall_options(work_dir, KEPT)
        given = {text.partition('=')[0] for text in texts}
        again = [text for text in kept.get('cfg_options') or () if text.partition('=')[0] not in given]
        flags = [name for name, none in KEPT.items() if getattr(args, name) == none and kept.get(name, none) != none]
        args.cfg_options = read_settings_again(again, cfg, work_dir) | (args.cfg_options or {})
    for name in flags:
        setattr(args, name, kept[name])
    if (again or flags) and os.environ.get('RANK', '0') == '0':
        said = [*(f'--{name.replace("_", "-")}' for name in flags), *again]
        print(one_line(f'as at the start of the run in {short_path(work_dir)}: {" ".join(said)}'), flush=True)
    return dict(cfg_options=[*again, *texts], **{name: getattr(args, name) for name in KEPT})


def main() -> None:
    """Train."""
    args = parse_args()
    if args.work_dir:
        require_unlocked(args.work_dir)
    from ..engine import RunInterrupted
    from ..engine.checks.config import check_batches
    from ..engine.checks.data import explain_data
    from ..engine.common import find_steps
    from ..engine.runner.build import build_quietly, enable_mixed_precision, prepare, prepare_resuming, put_hook
    from ..engine.runner.distributed import leave_distributed
    from ..engine.runner.earlier_results import find_results_to_replace
    from ..engine.runner.signals import stop_listening
    from ..export.following import follow_weights

    options = take_up_options(args)
    cfg = prepare(args)
    follow_weights(cfg, args.cfg_options or ())
    pretrains = any(find_steps(cfg.get('train_dataloader'), ('ComplementaryMask',)))
    put_hook(cfg, 'coma_mm.ConfigHook', options=options)
    put_hook(cfg, 'coma_mm.ProgressHook', lines=pretrains, opening=True)
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
    check_work_dir(cfg)
    roots, replaced = find_roots(cfg.get('val_dataloader')), args.overwrite or bool(cfg.get('resume'))
    check_evaluators(cfg.get('val_evaluator'), 'val_evaluator', roots, replaced, '--overwrite')
    replacing = find_results_to_replace(cfg, args.overwrite)
    lock = lock_work_dir(cfg.work_dir)  # noqa: F841 - for as long as this process lives
    try:
        with explain_data():
            runner = build_quietly(cfg)
            check_batches(runner)
            runner.register_hook(replacing)
            runner.train()
    except RunInterrupted as end:
        leave_distributed(end.code)
        raise
    finally:
        stop_listening()
    leave_distributed()
