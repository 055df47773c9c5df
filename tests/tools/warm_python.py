#!/usr/bin/env -S python3 -SE
"""Stands in for `python` where tests start tools: torch and the toolboxes are imported there already.

Importing them takes 4 to 15 seconds, most of a small run. A server imports them once. This client hands it arguments,
folder, environment and open files; the server forks a process that runs them as `python` would. The client passes
signals on and ends as the process ends; where the client is killed, the process is, too.
"""

import json
import os
import select
import signal
import socket
import sys

SERVER = 'COMA_MM_WARM_PYTHON'  # names the server's socket
PASSED_ON = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2


def ask() -> None:
    """Make the server run the arguments."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ[SERVER])
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    wanted = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(wanted).to_bytes(8, 'big')], [0, 1, 2])
    server.sendall(wanted)
    status = server.recv(4)
    code = os.waitstatus_to_exitcode(int.from_bytes(status, 'big')) if status else 1
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(path: str) -> None:
    """Import what takes long, then fork a process for each client, until standard input ends."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while wait(0, listening.fileno()) != 0:
        client = listening.accept()[0]
        import_all()  # for the first client; tests that start no tools do not wait for it
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            return supervise(client)
        client.close()


def wait(*files: int) -> int:
    """Return the first of the files that has something to read, or has ended."""
    polled = select.poll()
    for file in files:
        polled.register(file, select.POLLIN)
    ready = [file for file, _ in polled.poll()]
    return next(file for file in files if file in ready)


def import_all() -> None:
    from importlib import import_module

    import torch.distributed.run  # noqa: F401

    for name in ('mmpretrain', 'mmdet', 'mmseg'):
        for part in ('datasets', 'engine', 'evaluation', 'models', 'visualization'):
            import_module(f'{name}.{part}')


def supervise(client: socket.socket) -> None:
    """Fork the process, which alone returns; pass on what happens to it and to the client."""
    length, files, *_ = socket.recv_fds(client, 8, 3)
    wanted = b''
    while len(wanted) < int.from_bytes(length, 'big'):
        wanted += client.recv(2**16)
    process = os.fork()
    if not process:
        client.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return become(*json.loads(wanted))
    for file in [0, 1, 2, *files]:
        os.close(file)
    ended = os.pidfd_open(process)
    while wait(ended, client.fileno()) != ended:
        numbers = client.recv(16)
        for number in numbers or [signal.SIGKILL]:
            os.kill(process, number)
        if not numbers:
            os._exit(0)
    client.sendall(os.waitpid(process, 0)[1].to_bytes(4, 'big'))
    os._exit(0)


def become(argv: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run what `python` would run: a file, a module after -m, or code after -c."""
    import random
    import runpy

    import numpy as np

    random.seed()
    np.random.seed()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = os.path.abspath(argv[0])  # what starts further processes: they are quick, too
    paths = [path for path in environment.get('PYTHONPATH', '').split(os.pathsep) if path] + sys.path[1:]
    sys.argv = argv[2:] if argv[1] == '-u' else argv[1:]
    if sys.argv[0] in ('-c', '-m'):
        sys.path = [folder, *paths]
        kind, what, *_ = sys.argv
        del sys.argv[0]
        if kind == '-c':
            exec(what, dict(__name__='__main__'))
        else:
            runpy.run_module(what, run_name='__main__', alter_sys=True)
    else:
        sys.path = [os.path.dirname(os.path.abspath(sys.argv[0])), *paths]
        runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    serve(sys.argv[2]) if sys.argv[1] == '--serve' else ask()
