"""Errors of commands, in one line: what was wrong, where, and what to do."""

import atexit
import errno
import inspect
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..utils.arguments import did_you_mean
from ..utils.files import PACKAGE
from ..utils.folder_lock import forget_start
from ..utils.manifest import find_kind
from ..utils.paths import short_path
from ..utils.stopping import describe_signal
from ..utils.text import printable
from ..utils.workers import system_number

TRACEBACK = '--traceback'
# With what option each command is told where to write.
OUTPUTS = dict(
    benchmark='--json',
    train='--work-dir',
    test='--work-dir, --out and --show-dir',
    **dict.fromkeys(('browse', 'compare', 'config', 'embed', 'finetune', 'plot_benchmark'), '--out'),
    **dict.fromkeys(('pretrain', 'release', 'report', 'visualize'), '--out'),
)
# Advice on running out of memory, by command.
LESS_MEMORY = {
    'train': 'lower the batch size (train_dataloader.batch_size, with optim_wrapper.accumulative_counts raised as '
    'much), or recompute activations (model.backbone.with_cp=True), or train in mixed precision (--amp)',
    'pretrain': 'lower --batch-size, --size or --workers, or choose a smaller --arch',
    'finetune': 'lower --batch-size, --size or --workers',
    **dict.fromkeys(('compare', 'embed'), 'lower --batch-size or --workers'),
    '': 'free some, or raise the limit (ulimit -v)',
}
# Remark of commands without --cfg-options on errors whose advice names these.
OVERRIDING = dict(
    **dict.fromkeys(
        ('finetune', 'pretrain'),
        '--cfg-options: of coma-mm train CONFIG, with config.py of the run as its CONFIG',
    ),
    export='--cfg-options: of coma-mm train; here correct the config itself',
    **dict.fromkeys(('compare', 'config', 'report', 'shards'), '--cfg-options: of coma-mm train'),
)
# Their advice where an error says to start a new run from the weights of a checkpoint.
ANEW = dict(pretrain=r'--init \1, in a new run', finetune=r'coma-mm finetune \1 LABELLED_FOLDER --out ANOTHER')
FROM_WEIGHTS = re.compile(r'--cfg-options load_from=(.+?), without --resume')
SECOND_WAY = re.compile(r', or with --cfg-options \S+')
WORKERS = {
    'train': 'train_dataloader.num_workers',
    'test': 'test_dataloader.num_workers',
    '': '--workers',
}
LONG = 1_000  # characters at each end of an error's line
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
# In the texts of libraries.
TOO_MANY = os.strerror(errno.EMFILE)
UNALLOCATED = 'DefaultCPUAllocator: ', 'could not create a primitive'  # of torch, of oneDNN
TEMPORARY = os.environ.get('TMPDIR', '/tmp')
HOMELESS = re.compile('determine home directory|getpwuid|No username set')
UNMAPPED = re.compile('failed to map segment|cannot (allocate memory|map zero-fill pages)', re.I)
# Exceptions of the package about its input. All others that are not explained below may be bugs.
EXPECTED = ValueError, FloatingPointError, FileNotFoundError


class UsageError(Exception):
    """Arguments that a command does not take; the text has its usage above the reason."""


def finish(error: BaseException, command: str, is_own: bool = False) -> None:
    """End the process with what an error means, as the last line of standard error.

    The traceback goes to the log file of the run, if there is one by then; to the screen if ``--traceback`` asks for
    it, or if it is of what may be a bug and there is no log file. Of several processes that ``torchrun`` has started on
    a machine one prints; all leave the line to ``torchrun``, whose summary ends with it.

    A process of its own (``is_own``) serves the command alone. Stopped by a signal it leaves out the interpreter's
    shutdown, which takes seconds once torch is loaded.
    """
    if isinstance(error, SystemExit):
        line, code, expected = str(error.code), 1, True
    elif isinstance(error, UsageError):
        line, code, expected = str(error), 2, True
    elif isinstance(error, KeyboardInterrupt):
        code, expected = getattr(error, 'code', 130), True
        line = f'stopped by {describe_signal(code - 128)}{getattr(error, "way_on", "") or _way_on(command)}'
    else:
        reason = explain(error, command)
        line = re.sub(r'\s*\n\s*', ' ', f'error: {reason or name_error(error)}')
        code, expected = 1, reason is not None
    line = _say_whose(line, command)
    line = '\n'.join(map(_shorten, printable(line).splitlines()))
    trace, log = ''.join(traceback.format_exception(error)), _log_file()
    if log is not None:
        with suppress(OSError), open(log, 'a') as file:
            file.write(trace)
        if not expected:
            line += f' (traceback: {short_path(log)})'
    if expected:
        forget_start(log)
    if _tell_torchrun(line.splitlines()[-1]):
        if TRACEBACK in sys.argv or (log is None and not expected):
            sys.stderr.write(printable(trace))
        print(line, file=sys.stderr, flush=True)
    is_distributed = getattr(sys.modules.get('torch.distributed'), 'is_initialized', bool)()
    if is_distributed or (is_own and isinstance(error, KeyboardInterrupt)):
        # Threads of the process group can abort an interpreter that is shutting down, after which the last line is
        # another one.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises when loading workers end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _say_whose(line: str, command: str) -> str:
    """Say which command has ``--cfg-options``, where an error of what several commands share names them.

    Where they are the second of two ways, and the command has none, the first is left; a run that goes on needs both,
    as its own options are refused.
    """
    whose = OVERRIDING.get(command)
    line = FROM_WEIGHTS.sub(ANEW.get(command, r'\g<0>'), line)
    if whose and '--resume' not in sys.argv:
        line = SECOND_WAY.sub('', line)
    asks = '--cfg-options' in line.rpartition('\n')[2] and 'coma-mm train CONFIG --cfg-options' not in line
    return f'{line} ({whose})' if whose and asks else line


def _shorten(line: str) -> str:
    """Leave the middle of a very long line out, such as that of a value of 100,000 characters."""
    return line if len(line) <= 2 * LONG else f'{line[:LONG]} ... {line[-LONG:]}'


def explain(error: BaseException, command: str = '') -> str | None:
    """Return what was wrong with what a command was given, in one line; ``None`` if that is not known to be so."""
    text = _reason(error)
    registry, _ = _build_of(error)
    if isinstance(error, KeyError) and ' is not in the ' in text and registry:
        from ..engine.common import explain_type  # it is not needed to say that a command does not exist

        return explain_type(text.partition(' is not in the ')[0], registry)
    if isinstance(error, TypeError) and 'argument' in text:
        return _explain_argument(error)
    if reason := _explain_limit(error, text, command):
        return reason
    if isinstance(error, RuntimeError) and text.startswith('DataLoader worker (pid'):
        return (
            'a process that loads images was killed, as the system does when memory runs out: lower '
            f'{WORKERS.get(command, WORKERS[""])}, and in a container raise its shared memory (--shm-size)'
        )
    if HOMELESS.search(text):
        return 'there is no home folder: name one that can be written to by the variable HOME'
    if isinstance(error, UnicodeEncodeError) and error.reason == 'surrogates not allowed':
        return f'{printable(error.object.strip())[:300]!r} has a name in it that is not UTF-8: rename it'
    if isinstance(error, ModuleNotFoundError):
        return f'{text}; install what brings it, see docs/installation.md'
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_system(error, OUTPUTS.get(command))
    origin = _origin(error)
    is_ours = origin.is_relative_to(PACKAGE) or origin.is_relative_to(PACKAGE.parent / 'tools')
    return text if isinstance(error, EXPECTED) and (is_ours or 'Original Traceback' in str(error)) else None


def name_error(error: BaseException) -> str:
    """Return type and first line of an error, and what was being built when it happened."""
    first = _reason(error).partition('\n')[0]
    kind = _build_of(error)[1].get('type')
    return f'{type(error).__name__}: {first}' + (f' (while building {getattr(kind, "__name__", kind)})' if kind else '')


# ---- what is explained ----


def _build_of(error: BaseException) -> tuple[Any, dict]:
    """Return the registry that was building when an error was raised, and the settings; see ``note_builds``."""
    registry, settings = next(iter(getattr(error, 'builds', ())), (None, None))
    if registry is None or not isinstance(settings, dict):
        return None, {}
    with registry.switch_scope_and_registry(settings.get('_scope_')) as registry:
        return registry, settings


def _explain_argument(error: TypeError) -> str | None:
    """Name the class of a config that does not take an argument, or needs another one."""
    registry, given = _build_of(error)
    kind = given.get('type')
    if isinstance(kind, str):
        kind = registry.get(kind)
    if kind is None:
        return None
    if match := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
        name = match[1]
        if name not in given:
            return None
        classes = [base.__init__ for base in getattr(kind, '__mro__', ())] or [kind]
        known = {parameter for function in classes for parameter in inspect.signature(function).parameters}
        known -= {'self', 'args', 'kwargs'}
        return (
            f'{kind.__name__} takes no argument {name!r}{did_you_mean(name, known - {name})} (where a config replaces '
            "another class, _delete_=True leaves that one's arguments out)"
        )
    match = re.match(r'(\w+)\.__init__\(\) missing \d+ required .*arguments?: (.+)', str(error))
    if match and match[1] in [base.__name__ for base in getattr(kind, '__mro__', ())]:
        return f'{kind.__name__} needs {match[2]}: give that in the config'
    return None


def _explain_limit(error: BaseException, text: str, command: str) -> str | None:
    """Say which limit of the system or of the shell was met: of memory, open files, processes, or shared memory."""
    number, fewer = system_number(error), f'lower {WORKERS.get(command, WORKERS[""])}'
    semaphore = isinstance(error, OSError) and 'multiprocessing' in _origin(error).parts
    if number in FULL and (semaphore or isinstance(error, RuntimeError)):
        return f'shared memory is full: {fewer}, or make /dev/shm larger (--shm-size of a container)'
    if number in (errno.EMFILE, errno.ENFILE) or TOO_MANY in text or 'ancillary data' in text or 'ancdata' in text:
        return f'too many files are open at a time: raise the limit (ulimit -n 1024), or {fewer}'
    if number == errno.EAGAIN or "can't start new thread" in text:
        return f'no more processes can be started: raise the limit (ulimit -u), or {fewer}'
    if isinstance(error, ImportError) and (unmapped := [line for line in _chain(error) if UNMAPPED.search(line)]):
        return f'there is not enough memory to load a library ({unmapped[-1]}): raise the limit (ulimit -v)'
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
    is_memory = is_memory or any(words in text for words in UNALLOCATED)
    if not is_memory and number != errno.ENOMEM:
        return None
    found = re.search(r'Tried to allocate ([\d.]+ \w+)', text)
    on_gpu = f' on the GPU for {found[1]} more' if found else ''
    return f'there is not enough memory{on_gpu}: {LESS_MEMORY.get(command, LESS_MEMORY[""])}'


def _explain_system(error: OSError, option: str | None) -> str:
    """Say what the system would not do, with which file, and what helps."""
    name = error.filename
    place = f' {printable(os.fsdecode(name))}' if isinstance(name, (str, bytes)) else ''
    if 'No usable temporary directory' in str(error.strerror):
        return f'no temporary file can be written: make room in {TEMPORARY}, or name a folder with room by TMPDIR'
    if isinstance(error, FileNotFoundError) and not place and not _has_folder():
        return 'the folder that this was started in is gone: change to another one (cd), and start it again'
    if isinstance(error, FileNotFoundError):
        return f'there is no file or folder{place}'
    if re.fullmatch(f'{re.escape(str(tempfile.tempdir))}(/tmp[a-z0-9_]{{8}}(/.*)?)?', place.strip()):
        option = 'TMPDIR'
    elsewhere = f'another place with {option}' if option else 'another place'
    if error.errno in FULL:
        return f'cannot write{place}: {error.strerror}; make room, or name {elsewhere}'
    return f'cannot use{place}: {error.strerror}; change that, or name {elsewhere}'


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


# ---- where an error comes from ----


def _reason(error: BaseException) -> str:
    """Return an error's text, out of the traceback that an error in a loading worker is wrapped in."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, AssertionError) and not text:  # mmdet's often have none
        text = traceback.extract_tb(error.__traceback__)[-1].line or ''
    if 'Original Traceback' in text:
        raised = re.compile(r'^[A-Za-z_][\w.]*: ', re.M).search(text, text.rfind('\n  File "') + 1)
        text = text[raised.end() :] if raised else text
    return text.strip()


def _chain(error: BaseException) -> list[str]:
    """Return the lines of an error and of those that led to it: libraries wrap what the system says."""
    cause = error.__cause__ or error.__context__
    return str(error).splitlines() + (_chain(cause) if cause else [])


def _origin(error: BaseException) -> Path:
    """Return the file whose code has raised an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return Path(frames[-1].f_code.co_filename if frames else '')


# ---- where it goes ----


def _log_file() -> Path | None:
    """Return the file that mmengine's logger of this run writes."""
    loggers = getattr(sys.modules.get('mmengine.logging'), 'MMLogger', None)  # without, nothing has been logged yet
    handlers = loggers.get_current_instance().handlers if loggers else []
    names = [handler.baseFilename for handler in handlers if isinstance(handler, logging.FileHandler)]
    return next((Path(name) for name in names if os.path.isfile(name)), None)


def _way_on(command: str) -> str:
    """Say how a run goes on, if it has begun."""
    log = _log_file()
    if command != 'train' or log is None:
        return ''
    folder = log.parents[1]
    if not find_kind(folder, 'checkpoint') and not any(folder.glob('*.pth')):
        return ' before there was a checkpoint; the same command starts anew'
    again = 'the same command' if '--resume' in sys.argv else 'the same command with --resume'
    return f'; {again} goes on from the last checkpoint'


def _tell_torchrun(line: str) -> bool:
    """Leave the line where torchrun looks for it, in the form of ``torch.distributed.elastic``'s own.

    Returns:
        Whether this process is the first of those of torchrun on this machine to end with an error.
    """
    name = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if name is None:
        return True
    file = Path(name)
    content = dict(message=line, extraInfo=dict(py_callstack=line, timestamp=str(int(time.time()))))
    with suppress(OSError):
        file.write_text(json.dumps(dict(message=content)))
    try:
        open(file.parents[1] / 'reported', 'x').close()
    except OSError as error:
        return not isinstance(error, FileExistsError)
    return True
