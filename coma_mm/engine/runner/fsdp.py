"""Fully sharded training: each process keeps its share of the weights, gradients and optimizer state only."""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy as BaseFSDPStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper, build_optim_wrapper
from mmengine.utils import get_object_from_string
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from ...checkpoints.pretrained import load_exactly
from ...registry import STRATEGIES
from ..checks.channels import check_channels


@STRATEGIES.register_module()
class FSDPStrategy(BaseFSDPStrategy):
    """FSDP for mmengine's ``FlexibleRunner`` with the steps and the checkpoints of unsharded runs.

    Parameters, gradients and reduction stay in fp32, so that a step equals that of ``DistributedDataParallel``;
    ``coma_mm.AutocastOptimWrapper`` computes in bf16 where that is fast. Checkpoints are whole, written by the first
    process, and have the names, shapes and optimizer state of other runs: each kind of run resumes the other's.

    mmengine's strategy builds the optimizer after sharding, so that no parameter gets weight decay. It resumes with
    torch 2.0 only, clips each process's gradients by their own norm, and needs a GPU.

    Args:
        blocks: Dotted names of classes whose instances are sharded one by one: a process has all weights of one at a
            time. Weights outside of them are gathered for the whole step.
        model_wrapper: More arguments of ``MMFullyShardedDataParallel``.
        **kwargs: Those of mmengine's ``FSDPStrategy`` but for ``state_dict_cfg``.

    Raises:
        ValueError: If the model keeps a second set of weights (CoMA's evaluation ``ema``, or ``copy`` with an
            interval), which is not updated shard by shard; if a checkpoint does not fit.
    """

    def __init__(
        self,
        *,
        blocks: tuple[str, ...] = ('coma_mm.models.layers.Block',),
        model_wrapper: dict | None = None,
        **kwargs: Any,
    ):
        wrapper = dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy=partial(
                transformer_auto_wrap_policy, transformer_layer_cls={get_object_from_string(name) for name in blocks}
            ),
            use_orig_params=True,  # the optimizer's groups mix parameters of one block
        )
        on_cpu = get_device() == 'cpu'
        if on_cpu:
            wrapper['device_id'] = torch.device('cpu')
        super().__init__(state_dict_cfg='full', model_wrapper=wrapper | (model_wrapper or {}), **kwargs)
        # On the CPU offloading copies nothing, and FSDP would free the weights while the checkpoint is written.
        self.state_dict_config.offload_to_cpu = self.optim_state_dict_config.offload_to_cpu = not on_cpu

    def prepare(
        self, model: nn.Module | dict, *, optim_wrapper: BaseOptimWrapper | dict | None = None, **kwargs: Any
    ) -> nn.Module | list:
        """Build what mmengine's strategy builds, the optimizer before the model is sharded."""
        if self._prepared:
            return self._prepared_components()
        model = self.build_model(model)
        check_channels(model)
        if getattr(model, 'evaluation', None) is not None:
            raise ValueError(
                f'evaluation mode {model.evaluation_mode!r} keeps a second set of weights, which FSDP cannot update; '
                "leave interval and momentum out of evaluation, with mode='copy' in place of 'ema', or train without "
                'FSDP'
            )
        self.unsharded = deepcopy(model).to('meta')
        model.to(get_device())
        wrapper = build_optim_wrapper(model, optim_wrapper) if isinstance(optim_wrapper, dict) else optim_wrapper
        if wrapper is not None:
            groups = wrapper.optimizer.param_groups
            self.names = [self.id_to_name[id(parameter)] for group in groups for parameter in group['params']]
            if getattr(wrapper, 'loss_scaler', None) is not None:  # one that hears of infinities in all shards
                wrapper.loss_scaler = ShardedGradScaler()
            if getattr(wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
                wrapper.clip_func = lambda _, **kwargs: self.model.clip_grad_norm_(**kwargs)
        return super().prepare(model, optim_wrapper=wrapper, **kwargs)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper, model: nn.Module | None = None) -> BaseOptimWrapper:
        """Return what ``prepare`` built: FSDP keeps the parameters' objects and exchanges what is in them."""
        return optim_wrapper

    def load_model_state_dict(self, state_dict: dict, **kwargs: Any) -> None:
        load_exactly(self.unsharded, {name: value.to('meta') for name, value in state_dict.items()})
        self.model.load_state_dict(state_dict, strict=False)  # what may be missing was decided above

    def optim_state_dict(self) -> dict:
        """Return the state of the unsharded optimizer, in the first process."""
        state = FullyShardedDataParallel.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        if self.rank:
            return {}
        return self.optim_wrapper.state_dict() | _rename(state, {name: i for i, name in enumerate(self.names)})

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of an unsharded optimizer."""
        state = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, _rename(state_dict, dict(enumerate(self.names)))
        )
        self.optim_wrapper.load_state_dict(state_dict | state)

    def resume(self, filename: str, **kwargs: Any) -> dict:
        """Resume; the checkpoint, which is whole, stays off the GPU."""
        return super().resume(filename, **kwargs | dict(map_location='cpu'))


def _rename(state_dict: dict, names: dict) -> dict:
    """Return an optimizer's state with other keys for its parameters."""
    return dict(
        state={names[key]: value for key, value in state_dict['state'].items()},
        param_groups=[
            group | dict(params=[names[key] for key in group['params']]) for group in state_dict['param_groups']
        ],
    )
