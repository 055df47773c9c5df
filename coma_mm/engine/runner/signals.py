"""Signals at which a run saves a checkpoint before it ends: those of clusters, and Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from ...utils.stopping import SHUTDOWN_SIGNALS, stop
from ...utils.workers import end_with_unsent

ECHO = 1.0  # seconds in which torchrun may pass on a Ctrl-C that the terminal has sent to its ranks as well
SAVING = b'\nCtrl-C: saving a checkpoint after at most two more steps; press it again to stop at once\n'
_replaced: dict[int, Any] = {}  # by number, what handled the signals before a run listened


class ShutdownSignals:
    """Notes a signal to shut down; the run acts on it after its step.

    Attributes:
        received: The number of the signal; 0 before there was one.
    """

    def __init__(self) -> None:
        self.received = 0
        self.since = 0.0
        self.process = 0

    def listen(self) -> None:
        """Take signals that would end the process; a handler that somebody else has installed is left alone."""
        if threading.current_thread() is not threading.main_thread():  # Python lets no other thread do this
            return
        stop_listening()  # to a run before, in the same process
        self.process = os.getpid()
        for number in SHUTDOWN_SIGNALS:
            before = signal.getsignal(number)
            if before in (signal.SIG_DFL, signal.default_int_handler, stop):
                _replaced[number] = before
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:  # a process that the run has forked
            return
        if number != signal.SIGINT:
            self.received = number
        elif self.received != number:
            self.received, self.since = number, time.monotonic()
            if os.environ.get('RANK', '0') == '0':
                os.write(2, SAVING)
        elif 'TORCHELASTIC_RUN_ID' not in os.environ or time.monotonic() - self.since > ECHO:
            before = _replaced.get(number)
            stop_listening()
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt


def stop_listening() -> None:
    """Give the signals back, after a run that may have ended in any way."""
    if threading.current_thread() is threading.main_thread():
        while _replaced:
            signal.signal(*_replaced.popitem())


def shield_workers(loader: DataLoader) -> None:
    """Keep a loader's workers alive after a signal to all processes of a job, so that the run can end its step."""
    if not (isinstance(loader.worker_init_fn, partial) and loader.worker_init_fn.func is _start_worker):
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(then: Callable | None, worker: int) -> None:
    if hasattr(signal, 'sigwaitinfo'):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, SHUTDOWN_SIGNALS)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_unsent()
    if then is not None:
        then(worker)


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo(SHUTDOWN_SIGNALS).si_pid != parent:  # whose SIGTERM is its last means to end workers
        pass
    os._exit(0)
