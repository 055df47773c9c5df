"""Few parameter groups: by depth in the backbone and by weight decay."""

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.utils import digit_version
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise decay of the learning rate, and no weight decay on norms, biases and tokens.

    Parameters are grouped by (depth, weight decay), so that an optimizer step is a few fused kernels, where mmengine's
    and mmpretrain's constructors make a group of each tensor. What is flat (norms, biases, scales, a mask or class
    token) gets no weight decay.

    ``paramwise_cfg`` takes ``layer_decay_rate`` (mmpretrain's name) or ``decay_rate`` (mmdet's and mmseg's): a
    parameter at depth d of D has the base rate times ``rate ** (D - 1 - d)``. 1.0, the default, is no decay and asks
    nothing of the model; otherwise the depths come from ``get_layer_depth`` of the model or of its backbone.

    AdamW runs fused, one pass over each tensor, where torch can do that and the config does not say ``fused=False``.

    Raises:
        ValueError: if there is a decay rate other than 1 and nothing to tell depths.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model and its wrapper."""
        if self.optimizer_cfg['type'] == 'AdamW':
            self.optimizer_cfg = {'fused': _can_fuse(model), **self.optimizer_cfg}
        return super().__call__(model)

    def add_params(self, params: list, module: nn.Module, **kwargs) -> None:
        """Append the groups of all trainable parameters of ``module`` to ``params``."""
        rate = self.paramwise_cfg.get('layer_decay_rate', self.paramwise_cfg.get('decay_rate', 1.0))
        groups = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = 1.0 if rate == 1 else self._scale(module, name, rate)
            is_flat = parameter.numel() == max(parameter.shape, default=1)
            decay = 0.0 if is_flat else self.base_wd
            group = groups.setdefault((scale, decay), dict(params=[], lr=self.base_lr * scale))
            group['params'].append(parameter)
            if decay is not None:
                group['weight_decay'] = decay
        params.extend(groups[key] for key in sorted(groups, key=lambda key: (key[0], key[1] or 0)))
        for (scale, decay), group in sorted(groups.items(), key=lambda item: item[0][0]):
            count = sum(parameter.numel() for parameter in group['params'])
            print_log(f'{count:,} parameters at {scale:.3g} x the learning rate, weight decay {decay}', 'current')

    def _scale(self, module: nn.Module, name: str, rate: float) -> float:
        if hasattr(module, 'get_layer_depth'):
            depth, depths = module.get_layer_depth(name)
        elif hasattr(getattr(module, 'backbone', None), 'get_layer_depth'):
            depth, depths = module.backbone.get_layer_depth(name, 'backbone.')
        else:
            raise ValueError(
                f'a layer decay rate of {rate} needs get_layer_depth of {type(module).__name__} or of its backbone; '
                'use a backbone that has it, such as coma_mm.DyViT, or layer_decay_rate=1.0'
            )
        return rate ** (depths - 1 - depth)


def _can_fuse(model: nn.Module) -> bool:
    on_gpu = all(parameter.is_cuda for parameter in model.parameters())
    return on_gpu or digit_version(torch.__version__) >= digit_version('2.4')  # which brought it to the CPU
