"""Hand-over of weights: from any checkpoint that holds a backbone to the backbone, completely or not at all.

Nothing here runs code from a file: :mod:`coma_mm.checkpoints` reads them.

Weights fit by their shapes alone, and some settings of a backbone leave no trace in those: heads, windows, the image
size that positions are meant for. So checkpoints carry the settings (``meta['backbone']``, JSON), and a backbone with
the attribute ``settings`` is compared with them: plain data, those arguments of its constructor that change what its
weights compute, all defaults filled in.
"""

import ast
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from mmengine.model import BaseModule, initialize, update_init_info
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from ..utils.files import shipped
from ..utils.reading import open_regular, parse_json
from ..utils.text import printable
from .bounded_building import bounded_building
from .downloads import fetched
from .torch_file import read_torch_file
from .unpickler import Refused
from .vit_names import rename_vit

WRAPPERS = ('state_dict', 'model', 'module', 'model_state_dict')  # under which weights are stored in the wild
HUB_FILE = 'model.safetensors'  # of a repository of the Hugging Face hub
# Settings in which a backbone differs from its checkpoint on purpose.
ADJUSTABLE = ('img_size', 'out_indices', 'attn_window', 'global_blocks', 'drop_path_rate')
# Arguments of backbones that say nothing about what they compute.
NO_SETTINGS = ('type', 'init_cfg', 'pretrained', 'compile')
# Arguments of a DyViT that decide, beside its weights, which function it is.
SHAPING = (
    *('arch', 'img_size', 'patch_size', 'in_channels', 'attention', 'windows', 'kv_conv', 'mlp_ratio', 'qkv_bias'),
    'layer_scale',
)
FROM = 'from:'  # before the name of a file, as the arch of a DyViT whose arguments it says
MAX_TEXT = 2_000_000  # characters of settings, or of a config, in a file


def read_checkpoint(path: str | Path, map_location: torch.device | str | Callable = 'cpu') -> dict:
    """Read a ``.pth`` or ``.safetensors`` file; never runs code from it.

    Args:
        path: A file, an address that mmengine's file backends know (https, s3, ...), or a name in one of OpenMMLab's
            tables (``torchvision://resnet50``, ``mmcls://...``, ``open-mmlab://...``), or the name of weights that come
            with this package (``coma_mm://dyvit-p_cifar10``), or a repository of the Hugging Face hub
            (``hf://user/name``, ``hf://user/name@revision``), or a folder as such repositories are: both have
            ``model.safetensors``.
        map_location: As in ``torch.load``.

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
                    f'["state_dict"], NEW). What was found: {_first_line(error)}'
                ) from None
            what = 'is refused' if isinstance(error, Refused) else 'is damaged or no checkpoint (incomplete download?)'
            raise ValueError(f'{path} {what}: {_first_line(error)}') from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not a dict of weights')
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    if str(path).startswith('mmcls://'):  # by convention the backbone's weights alone
        weights = get_state_dict(checkpoint)
        names = [name for name in weights if name.startswith('backbone.')]
        return dict(state_dict={name.removeprefix('backbone.'): weights[name] for name in names})
    return checkpoint


# mmengine's own loading knows our names, too, as in mmpretrain's ``get_model(..., pretrained=True)``. It comes with the
# runner, which needs cv2: without that nothing could ask for them.
try:
    from mmengine.runner import CheckpointLoader
except ImportError:
    pass
else:
    CheckpointLoader.register_scheme(('coma_mm://', 'hf://'), read_checkpoint, force=True)


@contextmanager
def _local_file(path: str) -> Iterator[str]:
    """Lend the file that a path, an address or a name in a table of OpenMMLab's stands for."""
    table, _, name = path.rpartition('://')
    if table in ('torchvision', 'modelzoo', 'mmcls', 'open-mmlab', 'openmmlab'):
        path = _look_up(table, name)
    elif table == 'coma_mm':
        path = _shipped_weights(name)
    elif table == 'hf':
        path = name if Path(name).is_dir() else _download_from_hub(name)
    if '://' not in path and Path(path).expanduser().is_dir():
        path = str(Path(path, HUB_FILE))
    with ExitStack() as stack:
        try:
            if '://' not in path:
                local = Path(path).expanduser()
            elif path.startswith(('http://', 'https://')):
                local = stack.enter_context(fetched(path))
            else:
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


def _shipped_weights(name: str) -> str:
    """Return the file of weights that come with the package."""
    files = {path.stem: path for path in shipped('weights').glob('*.safetensors')}
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
            f'there is no checkpoint hf://{name} with a file {HUB_FILE}, or no way to it: {_first_line(error)}'
        ) from None


def _look_up(table: str, name: str) -> str:
    """Return the address, or the file, that a name in a table of OpenMMLab's stands for."""
    from mmengine.runner import checkpoint as tables  # on demand: all of the runner comes with it

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
    """Return the weights of a checkpoint, out of all wrappers, without ``module.`` of data-parallel models."""
    seen = {id(checkpoint)}
    while name := next((key for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None):
        checkpoint = checkpoint[name]
        if id(checkpoint) in seen:  # a dict that contains itself
            return {}
        seen.add(id(checkpoint))
    return {
        key.removeprefix('module.'): value
        for key, value in checkpoint.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def load_weights(
    module: nn.Module,
    state_dict: dict[str, Tensor],
    source: str,
    is_optional: Callable[[str], bool] = lambda key: False,
) -> tuple[list[str], list[str]]:
    """Load all weights of a state dict into all weights of a module, or raise.

    Args:
        module: Without wrappers.
        state_dict: Names as in ``module.state_dict()``.
        source: What the error calls the state dict.
        is_optional: Whether a weight may be missing, or may be there without the module having it.

    Returns:
        The optional weights that were missing, and those that were unexpected.

    Raises:
        ValueError: If they do not fit, with the first differences.
    """
    shapes, missing, unexpected = [], [], []
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError:  # torch reports other shapes this way, at length
        own = module.state_dict()
        shapes = [
            f'{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in state_dict and state_dict[key].shape != own[key].shape
        ]
        if not shapes:
            raise
    differences = [
        f'{len(found)} {what}: {", ".join(found[:2])}{", ..." if len(found) > 2 else ""}'
        for what, found in (
            ('of other shapes', shapes),
            ('missing in the checkpoint', [key for key in missing if not is_optional(key)]),
            ('unknown to the model', [key for key in unexpected if not is_optional(key)]),
        )
        if found
    ]
    if differences:
        raise ValueError(
            f'{source} does not fit the model {type(module).__name__} of this config; is it of another architecture? '
            f'Weights {"; ".join(differences)}'
        )
    return missing, unexpected


def load_backbone(backbone: nn.Module, checkpoint: dict, source: str, prefix: str | None = None) -> None:
    """Find a backbone's weights in a checkpoint and load all of them.

    Weights may be named as the backbone names them, or with anything before that (``backbone.``, ``module.``,
    ``model.backbone.`` ...); what belongs to heads and decoders is left aside. Norms of stages that only one side
    outputs, and stages after the last output, are no error (the backbone's ``is_optional_weight``).

    Args:
        backbone: Takes the weights.
        checkpoint: A state dict, bare or wrapped, or a checkpoint of mmengine's runner.
        source: What log and error call the checkpoint.
        prefix: What stands before the backbone's names, where the choice should not be left to the function.

    Raises:
        ValueError: If the checkpoint holds no such backbone, not all of it, or one of other settings.
    """
    state_dict, own = get_state_dict(checkpoint), backbone.state_dict()
    if not state_dict:
        raise ValueError(f'{source} holds no weights; its keys are {", ".join(map(str, list(checkpoint)[:5]))}')
    if {'patch_embed.projection.weight', 'embeddings.0.weight'} & own.keys():  # a ViT of mmpretrain, or our decoder
        state_dict = rename_vit(state_dict)
    if prefix is None:
        prefix = find_prefix(state_dict, own)
    found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if not found:
        raise ValueError(f'{source} has no weights that start with {prefix!r}; its first is {next(iter(state_dict))}')
    is_optional = getattr(backbone, 'is_optional_weight', lambda key: False)
    check_settings(backbone, checkpoint, source)
    missing, unexpected = load_weights(backbone, found, source, is_optional)
    total = len(own)
    aside = len(state_dict) - len(found)
    print_log(
        f'{type(backbone).__name__}: matched {total - len(missing)} of {total} tensors'
        f'{f" after {prefix!r}" if prefix else ""} in {source}; '
        f'missing, as expected: {", ".join(missing) or "none"}; unexpected, not needed: '
        f'{", ".join(unexpected[:4]) or "none"}{", ..." if len(unexpected) > 4 else ""}; not of the backbone: {aside}',
        'current',
    )


def check_settings(backbone: nn.Module, checkpoint: dict, source: str) -> None:
    """Compare a backbone's settings with those that its weights were trained with, where both sides tell theirs.

    Differences in :data:`ADJUSTABLE` settings are logged.

    Args:
        backbone: Its ``settings`` are compared; nothing is done if it has none.
        checkpoint: Its ``meta`` has the arguments of the backbone's constructor, see :func:`read_settings`.
        source: What log and error call the checkpoint.

    Raises:
        ValueError: If a setting differs that changes what the weights compute.
    """
    own, arguments = getattr(backbone, 'settings', None), read_settings(checkpoint)
    kind = type(backbone)
    # The class is that of the backbone at hand: nothing that a file names is looked up, let alone called.
    if own is None or arguments is None or str(arguments.get('type')).split('.')[-1] != kind.__name__:
        return
    try:
        arguments = {name: value for name, value in arguments.items() if name not in NO_SETTINGS}
        with torch.device('meta'), bounded_building(get_state_dict(checkpoint), arguments):
            theirs = kind(**arguments).settings
    except Exception as error:  # what stands in a file can be wrong in any way
        raise ValueError(
            f'{source} says that it was trained with settings that {kind.__name__} does not take '
            f'({_first_line(error)}), so its weights cannot be trusted to mean the same here; was it written by '
            'another version of coma_mm?'
        ) from None
    own, theirs = (dict(_flatten(json.loads(json.dumps(settings)))) for settings in (own, theirs))
    names = [name for name in own | theirs if own.get(name) != theirs.get(name)]
    meant = [name for name in names if name.split('.')[0] in ADJUSTABLE]
    if meant:
        differences = ', '.join(f'{name} {theirs.get(name)} there, {own.get(name)} here' for name in meant)
        print_log(f'{kind.__name__}: other settings than in {source}: {differences}', 'current')
    if wrong := [name for name in names if name not in meant]:
        differences = '; '.join(
            f'{name} is {theirs.get(name)} in the checkpoint and {own.get(name)} here' for name in wrong
        )
        raise ValueError(
            f'{source} was trained with other settings of {kind.__name__}, with which its weights compute something '
            f'else: {differences[:1000]}. Set {_list_options(names, wrong, theirs)}'
            + (f', or model.backbone.arch={FROM}{source}, which takes all of it' if kind.__name__ == 'DyViT' else '')
        )


def _list_options(names: list[str], wrong: list[str], settings: dict) -> str:
    """Return settings of the backbone as ``--cfg-options`` takes them: those that are wrong, and the image size."""
    values: dict[str, Any] = {name: settings.get(name) for name in names if name in wrong or name == 'img_size'}
    sides = values.get('img_size')
    if isinstance(sides, list) and len(set(sides)) == 1:
        values['img_size'] = sides[0]
    return ' '.join(f'model.backbone.{name}={value}'.replace(' ', '') for name, value in values.items())[:1000]


def read_settings(checkpoint: dict) -> dict | None:
    """Return the arguments of the backbone's constructor that a checkpoint was trained with; None if it does not say.

    Files of ``tools/export.py`` and checkpoints of our tools' runs have them as JSON, in ``meta['backbone']``. Those of
    other runs have the text of their config: it is read, not run, as far as it consists of literals.
    """
    meta = read_meta(checkpoint)
    try:
        if 'backbone' in meta:
            settings = parse_json(_short(meta['backbone']))
        else:
            settings = (read_config_text(meta.get('cfg') or '').get('model') or {}).get('backbone')
    except (AttributeError, SyntaxError, TypeError, ValueError, RecursionError):
        return None
    # What a file says names no other one.
    return settings if isinstance(settings, dict) and FROM not in json.dumps(settings, default=str) else None


def read_dyvit(checkpoint: dict) -> dict | None:
    """Return :data:`SHAPING` arguments of the :class:`.DyViT` that a checkpoint holds; None if it does not say them."""
    settings = read_settings(checkpoint) or {}
    if str(settings.get('type')).rpartition('.')[2] != 'DyViT':
        return None
    return {name: settings[name] for name in SHAPING if name in settings}


def read_meta(checkpoint: dict) -> dict:
    """Return what a checkpoint says of itself; nothing if that is no dict."""
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, dict) else {}


def _short(text: str) -> str:
    """Return a text that is short enough to be parsed: that of a config has some 100 kB, what is made of it far more.

    Raises:
        ValueError: If it is not.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f'a text of {len(text)} characters, where at most {MAX_TEXT} are read')
    return text


def read_config_text(text: str, names: Collection[str] = ('model', 'default_scope')) -> dict:
    """Return some top-level settings of a config's text; unlike mmengine's reader it runs nothing.

    Raises:
        ValueError: If they are made of more than literals.
    """
    try:
        return {
            target.id: _read_literal(statement.value)
            for statement in ast.parse(_short(text)).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets[:1]
            if isinstance(target, ast.Name) and target.id in names
        }
    except (RecursionError, MemoryError):  # which Python's parser says for the same
        raise ValueError('it is nested too deeply') from None
    except TypeError:  # such as dict(5)
        raise ValueError('it is made of more than literals') from None


def _read_literal(node: ast.expr | None) -> Any:
    """Return the value of a literal or a call of ``dict``."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        value: dict = {}
        for part in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg is None)]:
            value.update(_read_literal(part))
        return value | {keyword.arg: _read_literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {_read_literal(key): _read_literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_read_literal(element) for element in node.elts]
    if node is None:
        raise ValueError('a dict is unpacked in another one')
    return ast.literal_eval(node)


def _flatten(settings: dict, prefix: str = '') -> Iterator[tuple[str, object]]:
    """Yield settings by dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialises a backbone from any checkpoint that holds one, for ``init_cfg`` (ours).

    In place of mmengine's class of this name, which loads what happens to match and warns about the rest. As with that
    one, what is loaded is what the backbone has after ``init_weights()``: children are initialised before, and other
    initialisers of a list of ``init_cfg``, wherever they stand in it.

    Args:
        checkpoint: A checkpoint of mmengine's runner (of pre-training, classification, detection or segmentation), a
            file of ``tools/export.py``, or a state dict, ``.pth`` or ``.safetensors``.
        prefix: See :func:`load_backbone`.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None):
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        """Load, as the last thing that the module's ``init_weights()`` does, if it is that which calls.

        mmengine goes by the name: it keeps ``Pretrained`` for the end, and classes with an ``init_weights`` of their
        own ask for it before they draw weights. All other names, such as ``coma_mm.Pretrained``, come before the
        children. So the module is given ours by that name, and is initialised anew.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it cannot be read safely, or does not fit, or if the class of the module draws weights
                whatever was loaded.
        """
        last = dict(type='Pretrained', _scope_='coma_mm', checkpoint=self.checkpoint, prefix=self.prefix)
        in_init_weights = isinstance(module, BaseModule) and hasattr(module, '_params_init_info')
        if not in_init_weights or module.init_cfg == last:
            self._load(module)
            return
        configs = module.init_cfg if isinstance(module.init_cfg, list) else [module.init_cfg or {}]
        others = [config for config in configs if config and config.get('checkpoint') != self.checkpoint]
        initialize(module, deepcopy(others))
        for config in others:  # mmengine would apply those after ours once more
            config.clear()
            config.update(type='Constant', val=0, layer='none')
        module.init_cfg = last
        module.init_weights()
        for child in module.children():
            child.is_init = True  # as BaseModules are by now; mmengine would draw the weights of others again
        info = module._params_init_info
        drawn = [
            name
            for name, parameter in module.named_parameters()
            if not torch.equal(parameter.data.mean().nan_to_num().cpu(), info[parameter]['tmp_mean_value'].nan_to_num())
        ]
        if drawn:
            raise ValueError(
                f'{type(module).__name__}.init_weights() draws {len(drawn)} weights after it has loaded '
                f'{self.checkpoint} ({", ".join(drawn[:2])}, ...), so init_cfg cannot load them; use '
                'load_from=FILE of the config, or coma_mm.models.load_backbone after init_weights()'
            )

    def _load(self, module: nn.Module) -> None:
        try:
            checkpoint = read_checkpoint(self.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: name another with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train from '
                'random weights with model.backbone.init_cfg=None'
            ) from None
        load_backbone(module, checkpoint, str(self.checkpoint), self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'coma_mm.Pretrained: {self.checkpoint}')


def find_prefix(state_dict: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return what stands before a backbone's names, in case of doubt the shortest, such as ``backbone.``."""
    first = next(iter(own))
    candidates = {key.removesuffix(first) for key in state_dict if key == first or key.endswith(f'.{first}')}
    # Evaluation weights of CoMA lie under "evaluation.module."; they are asked for by name only.
    candidates = {prefix for prefix in candidates if not prefix.startswith('evaluation.')} or candidates
    matches = {prefix: sum(prefix + name in state_dict for name in own) for prefix in candidates | {''}}
    return min(matches, key=lambda prefix: (-matches[prefix], len(prefix)))


def _first_line(error: Exception) -> str:
    """Return the line of an error that says what was found: torch's are a page long."""
    lines = [line.strip() for line in printable(error).splitlines() if line.strip()]
    telling = [line for line in lines if 'GLOBAL' in line or 'Unsupported' in line]
    return (telling or lines or [type(error).__name__])[0][:300]
