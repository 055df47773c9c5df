"""Few parameter groups, with learning rates by layer."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.utils import digit_version
from torch import nn

from ...registry import OPTIM_WRAPPER_CONSTRUCTORS
from ...utils.arguments import did_you_mean, require_number

# Keys that the constructors of mmengine, mmpretrain, mmdet and mmseg read. `num_layers` is ignored: our backbones know
# their number of layers.
KEYS = (
    *('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult'),
    *('dcn_offset_lr_mult', 'bypass_duplicate', 'layer_decay_rate', 'decay_rate', 'decay_type', 'num_layers'),
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise decay of the learning rate, and no weight decay on norms, biases and tokens.

    ``paramwise_cfg`` takes ``layer_decay_rate`` (mmpretrain's name) or ``decay_rate`` (mmdet's and mmseg's): a
    parameter at depth d of D has the base rate times ``rate ** (D - 1 - d)``. 1.0, the default, is no decay and asks
    nothing of the model; otherwise the depths come from ``get_layer_depth`` of the backbone, wherever it sits, and
    everything outside it keeps its rate.

    All keys of mmengine's ``DefaultOptimWrapperConstructor`` mean what they mean there, and their factors multiply the
    layer's. What is flat (norms, biases, scales, a mask or class token) gets no weight decay unless one of them sets
    its factor.

    Parameters with equal settings share a group, so that an optimizer step is a few fused kernels. AdamW runs fused
    where torch can do that and the config does not say ``fused=False``.

    Raises:
        ValueError: if ``paramwise_cfg`` has a key that nothing reads; if it multiplies a learning rate or weight decay
            that the optimizer's config does not give; if there is a decay rate other than 1 and nothing to tell depths.
    """

    optimizer_cfg: dict
    paramwise_cfg: dict
    base_lr: float
    base_wd: float | None

    def __call__(self, model: nn.Module) -> OptimWrapper:
        if self.optimizer_cfg['type'] in ('AdamW', torch.optim.AdamW):
            self.optimizer_cfg = {'fused': _can_fuse(model), **self.optimizer_cfg}
        return super().__call__(model)

    def add_params(self, params: list, module: nn.Module, **kwargs: Any) -> None:
        """Append the groups of all trainable parameters of ``module`` to ``params``."""
        names = {parameter: name for name, parameter in module.named_parameters()}
        layer_scale = self._layer_scale(module)
        groups: dict[str, dict] = {}
        for settings in self._mmengine_groups(module):
            (parameter,) = settings.pop('params')
            if parameter not in names:  # shared, and placed where it was met first
                continue
            name = names.pop(parameter)
            settings['lr'] = settings.get('lr', self.base_lr) * layer_scale(name)
            if settings.get('weight_decay') is None:
                settings['weight_decay'] = 0.0 if _is_flat(name, parameter) else self.base_wd
            options = {key: settings[key] for key in sorted(settings) if key not in ('lr_mult', 'decay_mult')}
            if options['weight_decay'] is None:  # the optimizer's own
                del options['weight_decay']
            groups.setdefault(repr(options), dict(params=[], **options))['params'].append(parameter)
        for group in sorted(groups.values(), key=lambda group: (group['lr'], group.get('weight_decay', 1))):
            params.append(group)
            count = sum(parameter.numel() for parameter in group['params'])
            shared = ', '.join(f'{key} {value}' for key, value in group.items() if key != 'params')
            print_log(f'{count:,} parameters with {shared}', 'current')

    def _validate_cfg(self) -> None:
        """Refuse what nothing reads, and factors of nothing."""
        self.paramwise_cfg = self.paramwise_cfg or dict(layer_decay_rate=1.0)  # without any, mmengine makes one group
        for key in self.paramwise_cfg:
            if key not in KEYS:
                raise ValueError(f'paramwise_cfg has no key {key!r}, but {", ".join(KEYS)}{did_you_mean(key, KEYS)}')
        if self.paramwise_cfg.get('decay_type', 'layer_wise') != 'layer_wise':
            raise ValueError(
                f'paramwise_cfg.decay_type={self.paramwise_cfg["decay_type"]!r} is not offered: rates decay from layer '
                "to layer; leave it out or set 'layer_wise'"
            )
        for key in ('lr', 'weight_decay') if 'decay_mult' in str(self.paramwise_cfg) else ('lr',):
            if self.optimizer_cfg.get(key) is None:
                raise ValueError(
                    f'paramwise_cfg multiplies {key}, which the optimizer was not given; set '
                    f'optim_wrapper.optimizer.{key}={dict(lr=1e-4, weight_decay=0.05)[key]}, for example'
                )
        super()._validate_cfg()

    def _mmengine_groups(self, module: nn.Module) -> list[dict]:
        """Return mmengine's groups, one for each parameter; their ``weight_decay`` is ``None`` unless a key sets it."""
        custom_keys = {
            # mmengine gives those that a custom key matches the base decay, then adds the key's own settings.
            key: options if 'decay_mult' in options else dict(weight_decay=None) | options
            for key, options in self.paramwise_cfg.get('custom_keys', {}).items()
        }
        constructor = DefaultOptimWrapperConstructor(
            dict(optimizer=self.optimizer_cfg),
            self.paramwise_cfg | dict(custom_keys=custom_keys, bypass_duplicate=False),  # both are up to us
        )
        groups: list[dict] = []
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)  # some lines for each parameter, with rates that are not final
        try:
            constructor.add_params(groups, module)
        finally:
            logger.setLevel(level)
        return groups

    def _layer_scale(self, module: nn.Module) -> Callable[[str], float]:
        """Return a function from a parameter's name to its layer's scale."""
        decay = self.paramwise_cfg.get('layer_decay_rate', self.paramwise_cfg.get('decay_rate', 1.0))
        require_number('(0, inf)', **{'paramwise_cfg.layer_decay_rate': decay})
        if decay == 1:
            return lambda name: 1.0
        backbones = {
            f'{name}.' if name else '': child
            for name, child in module.named_modules()
            # mmpretrain's models hand the question on to their backbone.
            if hasattr(child, 'get_layer_depth') and not hasattr(child, 'backbone')
        }
        if not backbones:
            raise ValueError(
                f'a layer decay rate of {decay} needs get_layer_depth of a backbone, and nothing in '
                f'{type(module).__name__} has it; use coma_mm.DyViT, for example, or layer_decay_rate=1.0'
            )

        def scale(name: str) -> float:
            for prefix, backbone in backbones.items():
                if name.startswith(prefix):
                    depth, depths = backbone.get_layer_depth(name.removeprefix(prefix))
                    return decay ** (depths - 1 - depth)
            return 1.0

        return scale


def _is_flat(name: str, parameter: nn.Parameter) -> bool:
    """Say whether it is a vector, in whatever shape; the weight of a layer with one output is a matrix."""
    return parameter.ndim < 2 or (parameter.numel() == max(parameter.shape) and not name.endswith('weight'))


def _can_fuse(model: nn.Module) -> bool:
    on_gpu = all(parameter.is_cuda for parameter in model.parameters())
    return on_gpu or digit_version(torch.__version__) >= digit_version('2.4')  # which brought it to the CPU
