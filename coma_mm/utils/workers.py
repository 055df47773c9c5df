"""Loading workers that cannot hand over what they have loaded."""

import os
import re
from multiprocessing.queues import Queue
from typing import NoReturn


def end_with_unsent(worker: int = 0) -> None:
    """Make a loading worker end when it cannot send a batch, which its loader would wait for without end.

    Shared memory or open files may have run out. The exit code is the system's number of the error, see
    :func:`system_number`. This is a ``worker_init_fn``.
    """
    Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def system_number(error: BaseException) -> int | None:
    """Return the system's number of an error, which torch puts at the end of its text, as of a worker's exit code."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r'\((\d+)\)$|with exit code (\d+)\.', str(error))
    return int(found[1] or found[2]) if found and isinstance(error, RuntimeError) else None


def _end(error: Exception, item: object) -> NoReturn:
    os._exit(min(system_number(error) or 1, 255))
