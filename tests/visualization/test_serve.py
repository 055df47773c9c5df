"""The report in a browser: nothing but the page."""

import os
import socket
import threading
import time

import pytest

from coma_mm.visualization import serve


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(serve._Handler, 'timeout', 0.5)
    (tmp_path / 'report.html').write_text('the page')
    (tmp_path / 'secret.txt').write_text('secret')
    server = serve.serve_report(tmp_path, 0)
    yield server
    server.shutdown()
    server.server_close()


def connect(server):
    return socket.create_connection(('127.0.0.1', server.server_port), timeout=5)


def ask(server, start, headers=b'Host: localhost\r\n'):
    answer = b''
    with connect(server) as connection:
        try:
            connection.sendall(start + b' HTTP/1.0\r\n' + headers + b'\r\n')
            while more := connection.recv(65536):
                answer += more
        except ConnectionError:  # it has hung up before all was sent
            pass
    return answer


def status(*args):
    return ask(*args).partition(b'\r\n')[0].split(b' ')[1:2]


def test_only_the_page_is_served(server):
    for path in b'/', b'/report.html', b'/report.html?x=1':
        answer = ask(server, b'GET ' + path)
        assert b'\r\nRefresh: 20\r\n' in answer and answer.endswith(b'\r\n\r\nthe page')
    head = ask(server, b'HEAD /')
    assert b' 200 ' in head and head.endswith(b'\r\n\r\n')
    for path in b'/secret.txt /../../etc/passwd //etc/passwd /%2e%2e/secret.txt /report.html/ secret.txt'.split():
        assert status(server, b'GET ' + path) == [b'404']
    for method in b'POST', b'PUT', b'DELETE', b'TRACE', b'BREW':
        assert status(server, method + b' /') == [b'501']
    for headers in b'', b'Host: evil.org\r\n', b'Host: localhost.evil.org:80\r\n', b'Host: \xff\x1b[2J\r\n':
        assert status(server, b'GET /', headers) == [b'403']
    assert status(server, b'GET /' + b'a' * 70_000) in ([b'414'], [])
    assert status(server, b'GET /', b'X: ' + b'y' * 70_000 + b'\r\n') in ([b'431'], [])


def test_links_and_pipes_are_not_followed(server, tmp_path):
    page = tmp_path / 'report.html'
    page.unlink()
    for make in (lambda: page.symlink_to('secret.txt')), (lambda: os.mkfifo(page)), page.mkdir:
        make()
        answer = ask(server, b'GET /')
        assert b' 200 ' in answer and b'not drawn anything yet' in answer
        page.rmdir() if page.is_dir() else page.unlink()


def test_silent_connections_end(server, capfd):
    before = threading.active_count()
    connections = [connect(server) for _ in range(20)]
    time.sleep(1.5)
    assert threading.active_count() <= before and ask(server, b'GET /').endswith(b'the page')
    for connection in connections:
        connection.close()
    assert capfd.readouterr() == ('', '')


def test_a_browser_that_leaves_early_prints_nothing(server, tmp_path, capfd):
    (tmp_path / 'report.html').write_bytes(bytes(8_000_000))
    for _ in range(3):
        with connect(server) as connection:
            connection.sendall(b'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n')
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')  # a reset
    assert ask(server, b'HEAD /').startswith(b'HTTP/1.0 200')
    assert capfd.readouterr() == ('', '')


def test_ports_that_are_none_or_taken(server, tmp_path):
    for port, why in (70_000, ''), (-1, ''), (server.server_port, 'in use'):
        with pytest.raises(ValueError, match=f'nothing can be shown at port {port} .*{why}.*; name another'):
            serve.serve_report(tmp_path, port)
