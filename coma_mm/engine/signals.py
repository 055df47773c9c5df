"""The signals by which clusters warn a run that it will be killed."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader

WARNINGS = signal.SIGTERM, signal.SIGUSR1


class Warnings:
    """Notes a warning, and leaves it to the run to act on it.

    Attributes:
        received: The number of the signal; 0 before there was one.
    """

    def __init__(self) -> None:
        self.received = 0
        self.taken: list = []

    def listen(self) -> None:
        """Take the signals' default, which is to die at once; what else someone does about them is left alone."""
        if threading.current_thread() is not threading.main_thread():  # Python lets no other thread do this
            return
        for number in WARNINGS:
            before = signal.getsignal(number)
            if before == signal.SIG_DFL or isinstance(getattr(before, '__self__', None), Warnings):
                signal.signal(number, self._note)
                self.taken.append(number)

    def stop(self) -> None:
        """Give the signals back."""
        while self.taken:
            signal.signal(self.taken.pop(), signal.SIG_DFL)

    def _note(self, number: int, frame: object) -> None:
        self.received = number


def outlive_warnings(loader: DataLoader) -> None:
    """Have a loader's workers outlive a warning to all processes of a job, so that the run can end its step."""
    if not (isinstance(loader.worker_init_fn, partial) and loader.worker_init_fn.func is _start_worker):
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(then: Callable | None, worker: int) -> None:
    if hasattr(signal, 'sigwaitinfo'):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    if then is not None:
        then(worker)


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo(WARNINGS).si_pid != parent:  # which ends its workers by SIGTERM, if nothing else helps
        pass
    os._exit(0)
