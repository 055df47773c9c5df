"""A run's folder in place of its config and its checkpoint: what was set when it was started need not be said again."""

import os
from collections.abc import Sequence
from pathlib import Path

from ...checkpoints.finding import find_config, newest_whole_checkpoint


def resolve_run(names: Sequence[str], commands: str) -> tuple[str | None, str, list[str]]:
    """Return the config, the checkpoint and the rest of ``[CONFIG] CHECKPOINT ...``.

    A run's folder stands for the config in it and its newest whole checkpoint, a checkpoint alone for itself and the
    config beside it.

    Args:
        commands: What should have been given, for the error.

    Raises:
        FileNotFoundError: If a folder is no run's.
        ValueError: If something is missing.
    """
    first, *rest = names
    if any(name.endswith('.py') and not os.path.isdir(name) for name in names[:2]):  # the wrong order is said later
        if not rest:
            raise ValueError(f'a checkpoint is missing: {commands}')
        return first, rest[0], rest[1:]
    path = Path(first)
    if not path.is_dir() or (path / 'config.json').is_file():  # a folder as the hub has
        config = find_config(path.parent) if path.is_file() else None
        return None if config is None else str(config), first, rest
    config, checkpoint = find_config(path), newest_whole_checkpoint(path)
    if config is None or checkpoint is None:
        missing = 'config (*.py) of its own' if config is None else 'whole checkpoint'
        raise FileNotFoundError(f'{path} has no {missing}, so it is no folder of a run: {commands}')
    return str(config), str(checkpoint), rest
