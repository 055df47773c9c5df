"""Functions in several processes, which are the ranks of one group."""

import os
from tempfile import TemporaryDirectory

import torch


def on_ranks(count, function, *args):
    """Call a function with its rank and more arguments in so many forks of this process."""
    with TemporaryDirectory() as folder:
        places = count, f'{folder}/meet', function, args
        torch.multiprocessing.start_processes(_be_rank, places, nprocs=count, start_method='fork')


def _be_rank(number, count, meet, function, args):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(count), MASTER_ADDR='', MASTER_PORT='')
    torch.distributed.init_process_group('gloo', init_method=f'file://{meet}', rank=number, world_size=count)
    function(number, *args)
    torch.distributed.barrier()
    os._exit(0)  # what pytest would do at its end is its own affair
