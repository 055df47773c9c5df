"""Progress of a long loop: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.progress import track

LINES = 30.0  # seconds between two lines where there is no terminal


def show_progress(steps: Any, doing: str) -> Iterator[Any]:
    """Yield the steps of something that has a length, and show how many are done, under the name ``doing``."""
    if sys.stdout.isatty():
        yield from track(steps, doing, total=len(steps))
        return
    printed = time.monotonic()
    for number, step in enumerate(steps, 1):
        yield step
        if time.monotonic() - printed > LINES:
            print(f'{doing}: {100 * number // len(steps)} %', flush=True)
            printed = time.monotonic()
