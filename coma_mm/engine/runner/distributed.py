"""Several processes: launchers, the group on CPUs, and sharding."""

import atexit
import os
import sys

import torch
from mmengine.config import Config

from ...utils.configs import type_name, walk_dicts
from ..common import EVALUATING

# Variables in the environment of a launcher's processes, and the command that starts them.
LAUNCHERS = dict(
    pytorch=(('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'tools/dist_train.sh, dist_test.sh or torchrun'),
    slurm=(('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'tools/slurm_train.sh or srun'),
    mpi=(('OMPI_COMM_WORLD_LOCAL_RANK',), 'mpirun'),
)
# Hooks that compute with, or copy, the model in one process, which under FSDP has a part of it only.
UNSHARDED_HOOKS = ('EMAHook', *EVALUATING)
# Norms with statistics over all processes, as configs of names and of classes call them.
SYNCED = ('SyncBN', 'SyncBatchNorm')


def leave_distributed(status: int = 0) -> None:
    """End torch.distributed; on the CPU end the process with it, the last thing a tool does.

    Threads of gloo, some of which outlive the process group, can abort an interpreter that is shutting down ("terminate
    called without an active exception", about one run in ten). So what is registered for the exit is done, and the rest
    of the shutdown left out.
    """
    if not torch.distributed.is_initialized():
        return
    backend = torch.distributed.get_backend()
    torch.distributed.destroy_process_group()
    if backend == 'gloo':
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def distribute_on_cpu(cfg: Config) -> None:
    """Start torch.distributed and wrap the model as machines without a GPU need it, where mmengine insists on one."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    ) | (cfg.get('model_wrapper_cfg') or {})
    cfg.model_wrapper_cfg.device_ids = None
    # Statistics over all processes exist for GPUs only.
    for _, node in walk_dicts(cfg.model):
        if type_name(node.get('type')) in SYNCED:
            node['type'] = 'BN'


def is_sharded(cfg: Config) -> bool:
    """Say whether a config trains with FSDP."""
    return 'FSDP' in str((cfg.get('strategy') or {}).get('type'))


def check_sharded(cfg: Config) -> None:
    """Refuse a config with FSDP where that cannot work."""
    if cfg.launcher == 'none':
        raise ValueError(f'FSDP shards a model over processes; start them with tools/dist_train.sh {cfg.filename} GPUS')
    if not torch.cuda.is_available():
        try:
            torch.cpu.Stream(priority=0)  # FSDP makes some, in torch 2.1 in vain
        except TypeError:
            raise ValueError(
                f'torch {torch.__version__} has FSDP for GPUs only; newer ones, such as 2.13, also for CPUs'
            ) from None
    kinds = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    hooks = [getattr(kind, '__name__', kind) for kind in kinds if type_name(kind) in UNSHARDED_HOOKS]
    if hooks:
        raise ValueError(
            f'{", ".join(hooks)} needs the whole model in one process, which FSDP shards; leave it out of '
            'custom_hooks and use tools/visualize.py or the knn configs on a checkpoint'
        )


def check_launcher(launcher: str) -> None:
    """Refuse a launcher whose processes nothing has started, or too many of them."""
    if launcher == 'none' or torch.distributed.is_initialized():
        return
    names, starter = LAUNCHERS[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher} is for processes that are started by {starter}, and here {", ".join(missing)} of '
            'their environment are missing: start them that way, or leave --launcher out'
        )
    gpus = torch.cuda.device_count()
    if launcher == 'pytorch' and 0 < gpus <= int(os.environ['LOCAL_RANK']):
        raise ValueError(f'this machine has {gpus} GPUs, and more processes were asked for: start {gpus} or fewer')
