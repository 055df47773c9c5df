"""Checkpoints of any origin as plain data: files, addresses, names in tables; no code in them is run."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from mmengine.fileio import get_local_path
from torch import Tensor

from ..utils.files import resource_dir
from ..utils.reading import open_regular
from ..utils.text import printable
from .builders import Refused
from .downloads import fetched
from .older_names import rename_older
from .torch_file import read_torch_file

WRAPPERS = ('state_dict', 'model', 'module', 'model_state_dict')  # under which weights are stored in the wild
HUB_FILE = 'model.safetensors'  # of a repository of the Hugging Face hub
BACKBONES = 'backbone.safetensors', HUB_FILE  # in the folder of a run, and in one for the hub


def read_checkpoint(path: str | Path, map_location: torch.device | str = 'cpu') -> dict:
    """Read a ``.pth`` or ``.safetensors`` file; never runs code from it.

    Args:
        path: One of

            - a file, the folder of a finished run of ``coma-mm pretrain``, or one with ``model.safetensors``
            - an address that mmengine's file backends know (https, s3, ...)
            - a name in one of OpenMMLab's tables (``torchvision://resnet50``, ``mmcls://...``, ``open-mmlab://...``)
            - the name of weights that come with this package (``coma_mm://dyvit-p_cifar10``)
            - a repository of the hub (``hf://user/name``, ``hf://user/name@revision``)
        map_location: Device of the tensors in a ``.pth`` file; those of ``.safetensors`` are on the CPU.

    Returns:
        What the file holds; for safetensors ``dict(state_dict=..., meta=...)``. Without ``meta['config']``, text that
        mmengine's runner would run as Python when it resumes.

    Raises:
        FileNotFoundError: If there is no such file, or the hub cannot be reached.
        ValueError: If it is damaged, or holds more than data, or if huggingface_hub is missing.
    """
    with _local_file(str(path)) as local:
        try:
            if '.safetensors' in (Path(str(path)).suffix, Path(local).suffix):
                from safetensors import safe_open

                open_regular(local).close()
                with safe_open(local, framework='pt') as file:
                    weights = {key: file.get_tensor(key) for key in file.keys()}
                    checkpoint: object = dict(state_dict=weights, meta=file.metadata() or {})
            else:
                checkpoint = read_torch_file(local, map_location)
        except (ImportError, MemoryError, PermissionError):
            raise
        except Exception as error:
            if isinstance(error, Refused) and 'GLOBAL' in str(error):
                raise ValueError(
                    f'{path} holds more than weights and plain data, and reading it could run code, so it is refused. '
                    'If you trust it, store its weights alone: torch.save(torch.load(PATH, weights_only=False)'
                    f'["state_dict"], NEW). What was found: {first_line(error)}'
                ) from None
            what = 'is refused' if isinstance(error, Refused) else 'is damaged or no checkpoint (incomplete download?)'
            raise ValueError(f'{path} {what}: {first_line(error)}') from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not a dict of weights')
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    if str(path).startswith('mmcls://'):  # by convention the backbone's weights alone
        weights = get_state_dict(checkpoint)
        names = [name for name in weights if name.startswith('backbone.')]
        return dict(state_dict={name.removeprefix('backbone.'): weights[name] for name in names})
    return checkpoint


def load_from_coma_mm(filename: str, map_location: object = 'cpu') -> dict:
    """Read a checkpoint for mmengine, whose log names a loader by what follows ``load_from_``.

    Tensors come onto the CPU, from where they are copied into a model, unless ``map_location`` is another device.
    """
    return read_checkpoint(filename, map_location if isinstance(map_location, (str, torch.device)) else 'cpu')


# mmengine's own loading knows our names, too, as in mmpretrain's ``get_model(..., pretrained=True)``. It comes with the
# runner, which needs cv2: without that nothing could ask for them.
try:
    from mmengine.runner import CheckpointLoader
except ImportError:
    pass
else:
    CheckpointLoader.register_scheme(('coma_mm://', 'hf://'), load_from_coma_mm, force=True)


def read_checkpoints_safely() -> None:
    """Make mmengine read all checkpoints in this process, of whatever address, without running code."""
    for scheme, loader in list(CheckpointLoader._schemes.items()):
        if loader.__module__ == 'mmengine.runner.checkpoint':  # and not those that a user has registered
            CheckpointLoader.register_scheme(scheme, load_from_coma_mm, force=True)


@contextmanager
def _local_file(path: str) -> Iterator[str]:
    """Lend the file that a path, an address or a name in a table of OpenMMLab's stands for."""
    table, _, name = path.rpartition('://')
    if table in ('torchvision', 'modelzoo', 'mmcls', 'open-mmlab', 'openmmlab'):
        path = _look_up(table, name)
    elif table == 'coma_mm':
        path = _packaged_weights(name)
    elif table == 'hf':
        path = name if Path(name).is_dir() else _download_from_hub(name)
    local = Path(path).expanduser()
    if '://' not in path and local.is_dir():
        found = next((local / name for name in BACKBONES if (local / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(f'the folder {path} has no {" and no ".join(BACKBONES)}: name a file in it')
        local = found
    with ExitStack() as stack:
        try:
            if path.startswith(('http://', 'https://')):
                local = stack.enter_context(fetched(path))
            elif '://' in path:
                local = Path(stack.enter_context(get_local_path(path)))
        except OSError as error:
            raise FileNotFoundError(f'there is no checkpoint {path}: {error}') from None
        except (ImportError, KeyError, ValueError) as error:  # a scheme without its package, an unknown one, or none
            reason = f'nothing here reads {error}://' if isinstance(error, KeyError) else error
            raise FileNotFoundError(
                f'there is no way to the checkpoint {path}: {reason}; download it, and give the path of the file'
            ) from None
        if not local.is_file():
            raise FileNotFoundError(f'there is no checkpoint {path}')
        yield str(local)


def _packaged_weights(name: str) -> str:
    """Return the file of weights that come with the package."""
    files = {path.stem: path for path in resource_dir('weights').glob('*.safetensors')}
    if name not in files:
        known = ', '.join(f'coma_mm://{stem}' for stem in sorted(files)) or 'none'
        raise FileNotFoundError(f'there are no weights coma_mm://{name}; the package comes with {known}')
    return str(files[name])


def _download_from_hub(name: str) -> str:
    """Return the file of a repository of the hub, from huggingface_hub's cache if it is there."""
    repository, _, revision = name.partition('@')
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ValueError(f'reading hf://{name} takes huggingface_hub: pip install huggingface_hub') from None
    try:
        # The endpoint as it is now: huggingface_hub reads the variable once, and whoever imports timm has imported it.
        logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # or each of its tries prints lines
        return hf_hub_download(repository, HUB_FILE, revision=revision or None, endpoint=os.environ.get('HF_ENDPOINT'))
    except Exception as error:  # of several libraries: no such repository or file, no right to it, no network
        raise FileNotFoundError(
            f'there is no checkpoint hf://{name} with a file {HUB_FILE}, or no way to it: {first_line(error)}'
        ) from None


def _look_up(table: str, name: str) -> str:
    """Return the address, or the file, that a name in a table of OpenMMLab's stands for."""
    from mmengine.runner import checkpoint as tables  # on demand: it needs cv2

    if table in ('torchvision', 'modelzoo'):
        addresses = tables.get_torchvision_models()
    elif table == 'mmcls':
        addresses = tables.get_mmcls_models()
    else:
        addresses = tables.get_external_models()
        name = tables.get_deprecated_model_names().get(name, name)
    if name not in addresses:
        raise FileNotFoundError(f'there is no checkpoint {table}://{name}: mmengine knows none of this name')
    address = addresses[name]
    return address if '://' in address else str(Path(tables._get_mmengine_home(), address))


def get_state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by today's names, without wrappers and ``module.`` of data-parallel models."""
    seen = {id(checkpoint)}
    while name := next((key for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None):
        checkpoint = checkpoint[name]
        if id(checkpoint) in seen:  # a dict that contains itself
            return {}
        seen.add(id(checkpoint))
    weights = {
        key.removeprefix('module.'): value
        for key, value in checkpoint.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    return rename_older(weights)


def first_line(error: Exception) -> str:
    """Return the line of an error that says what was found: torch's are a page long."""
    lines = [line.strip() for line in printable(error).splitlines() if line.strip()]
    telling = [line for line in lines if 'GLOBAL' in line or 'Unsupported' in line]
    return (telling or lines or [type(error).__name__])[0][:300]
