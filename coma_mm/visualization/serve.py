"""The report of a run in a browser on this machine, renewed while the run goes on."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from ..utils.reading import read_bytes

RENEWED = 20  # seconds between two looks of the browser
TIMEOUT = 10.0  # seconds without a byte, after which a connection ends
WAITING = b'<!DOCTYPE html><meta charset="utf-8"><title>coma_mm</title><p>The run has not drawn anything yet.</p>'


class _Server(ThreadingHTTPServer):
    """Answers each browser in a thread that ends with the process."""

    report: Path

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that leaves early: the screen belongs to the run."""


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
    """
    try:
        server = _Server(('127.0.0.1', port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ValueError(f'nothing can be shown at port {port} ({reason}); name another one, such as 8001') from None
    server.report = Path(work_dir, 'report.html')
    Thread(target=server.serve_forever, daemon=True).start()
    return server
