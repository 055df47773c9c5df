"""The commands, one module each; ``tools/*.py`` start them."""

from importlib import import_module

from ..environment import prepare_cpu

TIMED = ('benchmark', 'check_gpu')  # commands that set up what they time by themselves


def run(command: str) -> None:
    """Run a command with the arguments of this process; what cannot be done ends it with one line that says why."""
    if command not in TIMED:
        prepare_cpu()  # before torch is loaded
    try:
        import_module(f'.{command}', __name__).main()
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            raise
        error = stop
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    else:
        return
    from .errors import finish  # here: it is not needed otherwise

    finish(error, command)
