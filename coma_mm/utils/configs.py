"""One walk over the settings of a config, for all that look into one."""

from collections.abc import Iterator
from typing import Any


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield ``(place, value)`` of a node and of all below it; ``place`` is the dotted name.

    Args:
        node: Dicts and lists within each other. A value may be changed before the next one is asked for.
        place: Dotted name of the node.
    """
    yield place, node
    children: Any = node.items() if isinstance(node, dict) else ()
    for name, child in enumerate(node) if isinstance(node, (list, tuple)) else children:
        yield from walk(child, f'{place}.{name}' if place else str(name))


def walk_dicts(node: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """Yield ``(place, value)`` of the dicts among what :func:`walk` yields."""
    return ((path, value) for path, value in walk(node, place) if isinstance(value, dict))
