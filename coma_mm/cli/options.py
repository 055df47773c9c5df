"""Options that several commands have."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from mmengine.config import DictAction


def make_parser(description: str) -> ArgumentParser:
    """Return a parser of the options that both have."""
    parser = ArgumentParser(description=description)
    parser.add_argument('config', help='a config of mmpretrain, mmdet or mmseg')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: ./work_dirs/<name of the config>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=64 "model.backbone.windows=[[4]*4,2]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # Given by torch.distributed.launch with older versions of torch; torchrun sets the variable itself.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def checkpoint_file(name: str) -> str:
    """Check, as the ``type`` of an argument, that a checkpoint is there before anything is built or written."""
    if '://' not in name and not Path(name).is_file():
        raise ArgumentTypeError(f'there is no file {name}')
    return name
