"""torch.compile block by block: short compilation, static shapes, the same checkpoint keys."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def compile_blocks(model: nn.Module, options: bool | dict) -> None:
    """Compile each transformer block of a model when it is first called.

    Blocks are the members of every ``ModuleList`` called ``blocks`` or ``layers``. Blocks of equal shape share their
    code. Gathers, hooks and the loss stay outside: they would break graphs or make compilation long.

    Args:
        model: anything with such lists; keeps its parameters and their names.
        options: ``False`` does nothing, ``True`` compiles, a dict has options of ``torch.compile``, e.g.
            ``mode='max-autotune-no-cudagraphs'``.

    Raises:
        ValueError: if they are anything else.
    """
    if options is False:
        return
    if options is not True and not isinstance(options, dict):
        raise ValueError(f'compile must be True, False or a dict of options of torch.compile, got {options!r}')
    options = {'dynamic': False, **({} if options is True else options)}
    # The default of 8 is per function, not per block. Four stages, twice (with gradient and without), and the decoder
    # are more. Beyond the limit code silently runs uncompiled.
    torch._dynamo.config.cache_size_limit = max(128, torch._dynamo.config.cache_size_limit)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and name.rpartition('.')[2] in ('blocks', 'layers'):
            for block in module:
                block.compile(**options)


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run a model's blocks as they were written: for batches of a few other shapes, compiling would not pay."""
    calls = [(module, module._compiled_call_impl) for module in model.modules()]
    for module, _ in calls:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in calls:
            module._compiled_call_impl = call
