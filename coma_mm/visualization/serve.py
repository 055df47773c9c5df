"""The report of a run in a browser on this machine, renewed while the run goes on."""

import socket
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Thread, Timer
from typing import Any

from ..utils.reading import read_bytes

RENEWED = 20  # seconds between two looks of the browser
CONNECTIONS = 16  # at a time; each takes a thread and a descriptor from the run
TIMEOUT = 10.0  # seconds that a connection may take in all
WAITING = b'<!DOCTYPE html><meta charset="utf-8"><title>coma_mm</title><p>The run has not drawn anything yet.</p>'


class _Server(ThreadingHTTPServer):
    """Answers a bounded number of connections, each for a bounded time."""

    report: Path
    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, *args: Any) -> None:
        self.free = BoundedSemaphore(CONNECTIONS)
        super().__init__(*args)

    def get_request(self) -> Any:
        """Take a connection; where no descriptor is left, not at once again."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.5)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread, or hang up if there are enough."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer; then the place is free."""
        clock = Timer(TIMEOUT, _hang_up, [request])  # a timeout of the socket alone begins anew with each byte
        clock.daemon = True
        try:
            clock.start()
            super().process_request_thread(request, client_address)
        finally:
            clock.cancel()
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that leaves early: the screen belongs to the run."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers with the report, and with nothing else that is on this machine."""

    server: _Server
    server_version, sys_version = 'coma_mm', ''
    timeout = TIMEOUT

    def do_GET(self) -> None:
        host = self.headers.get('Host', '')
        if host.partition(':')[0] not in ('localhost', '127.0.0.1'):  # a page from elsewhere whose name leads here
            self.send_error(403)
            return
        if self.path.partition('?')[0] not in ('/', '/report.html'):
            self.send_error(404)
            return
        try:
            page = read_bytes(self.server.report, follow=False)
        except (OSError, ValueError):  # none yet, or a link, which could lead anywhere
            page = WAITING
        self.send_response(200)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(page)))
        self.send_header('Cache-Control', 'no-store')
        self.send_header('Refresh', str(RENEWED))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(page)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing: the screen belongs to the run."""


def serve_report(work_dir: str | Path, port: int = 8000) -> ThreadingHTTPServer:
    """Show a run's ``report.html`` at ``http://localhost:<port>`` for as long as this process lives; return the server.

    Args:
        work_dir: The run's folder; the page need not be there yet.
        port: 0 takes any that is free; ``server_port`` of the server tells which.

    Raises:
        ValueError: If the port is taken or not allowed.
    """
    try:
        server = _Server(('127.0.0.1', port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ValueError(f'nothing can be shown at port {port} ({reason}); name another one, such as 8001') from None
    server.report = Path(work_dir, 'report.html')
    Thread(target=server.serve_forever, daemon=True).start()
    return server
