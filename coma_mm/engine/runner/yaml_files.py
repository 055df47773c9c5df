"""YAML files that mmengine reads, configs above all: data, and no objects of Python."""

from typing import Any, TextIO

import yaml
from mmengine.fileio import YamlHandler, register_handler

# The parser in C reads the lists of the toolboxes' configs in a tenth of the time.
LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
DEPTH = 100
NODES = 1_000_000


class SafeYamlHandler(YamlHandler):
    """Reads YAML with the safe loader, in place of mmengine's handler, whose loader runs what tags name."""

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        text = file.read()
        try:
            _check_size(text)
            return yaml.load(text, Loader=LOADER)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(
                f'it holds an object of Python, which is not read ({error.problem}); leave it out'
            ) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f'it is no YAML: {type(error).__name__}') from None


def _check_size(text: str) -> None:
    """Refuse what would overflow the stack, or the memory once its aliases are written out."""
    sizes: dict[str, int] = {}  # nodes under each anchor
    inside: list[tuple[str | None, int]] = []  # anchor of each collection that is open, and its nodes so far
    for event in yaml.parse(text, Loader=LOADER):
        anchor, size = getattr(event, 'anchor', None), 1
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append((anchor, 1))
            if len(inside) > DEPTH:
                raise ValueError(f'it is nested more than {DEPTH} deep')
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = inside.pop()
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if anchor is not None:
            sizes[anchor] = size
        if inside:
            inside[-1] = inside[-1][0], inside[-1][1] + size
        if size > NODES:
            raise ValueError(f'its aliases stand for more than {NODES} values')


def read_yaml_safely() -> None:
    """Make mmengine read all YAML in this process without running anything."""
    register_handler(['yaml', 'yml'])(SafeYamlHandler)
