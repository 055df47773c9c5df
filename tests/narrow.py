"""Shipped configs made small: encoders of a fourth of their width, images of other sizes; and steps with them."""

import numpy as np
from mmengine.runner import Runner

from coma_mm.models.architectures import ARCHITECTURES


def narrow(arch):
    """Return the arch dict of a named or given DyViT, with a fourth of its channels."""
    arch = dict(ARCHITECTURES.get(arch, arch) if isinstance(arch, str) else arch)
    return dict(arch, dims=tuple(dim // 4 for dim in arch['dims']))


def replace(node, change):
    """Set each value in a part of a config to what ``change(key, value)`` returns."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        new = change(key, value)
        if new is not value:
            node[key] = new
        elif isinstance(value, (dict, list, tuple)):
            replace(value, change)


def shrink(key, value):
    """Return 64 for sizes of images."""
    return 64 if key in ('img_size', 'input_size', 'scale', 'crop_size') and isinstance(value, int) else value


def train(run, largest=np.inf):
    """Train a config or a runner; return the runner after a check of the loss, and that all that should learn did."""
    runner = run if isinstance(run, Runner) else Runner.from_cfg(run)
    runner.train()
    assert 0 < runner.message_hub.get_scalar('train/loss').current() < largest
    stepped = runner.optim_wrapper.optimizer.state
    wrong = [name for name, p in runner.model.named_parameters() if (p in stepped) != p.requires_grad]
    assert not wrong
    return runner
