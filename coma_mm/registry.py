"""The package's registries, children of mmengine's root.

``type='coma_mm.DyViT'`` therefore resolves in a config of any default scope with no import line: mmengine imports this
file on sight of the prefix, and each registry imports its ``locations`` on first look-up. Only mmengine is imported
here.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(name: str, location: str) -> Registry:
    """Return a registry below mmengine's root one, filled by importing ``coma_mm.<location>``."""
    parent = getattr(root, name)
    return Registry(parent.name, parent=parent, scope='coma_mm', locations=[f'coma_mm.{location}'])


MODELS = _child('MODELS', 'models')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', 'models')
DATASETS = _child('DATASETS', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')
METRICS = _child('METRICS', 'evaluation')
HOOKS = _child('HOOKS', 'engine')
VISBACKENDS = _child('VISBACKENDS', 'engine.runner.loggers')
LOOPS = _child('LOOPS', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
STRATEGIES = _child('STRATEGIES', 'engine.runner.fsdp')
