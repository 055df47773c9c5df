"""The run's config, beside its results."""

import json
import os
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils import manifest
from .recalled_options import OPTIONS


@HOOKS.register_module()
class ConfigHook(Hook):
    """Writes the run's config into its folder once all that could fail before the first step has not.

    mmengine writes it while the runner is built: a start that failed would have replaced the config of an earlier run.

    Args:
        text: Written to ``config.py``, in place of the runner's config under its own name. (A hand-written config
            in the folder keeps that name: the run's gets another one.)
        options: Of the command line, kept in ``options.json`` for those who go on with the run.
    """

    priority = 'LOWEST'

    def __init__(self, text: str | None = None, options: dict | None = None):
        self.text = text
        self.options = options
        self.is_written = False

    @master_only
    def before_train(self, runner: Runner) -> None:
        if self.is_written:  # by a run that validates now; its user may have changed the file
            return
        folder, self.is_written = runner.work_dir, True
        if self.text is None:
            name = Path(runner.cfg.filename).name if runner.cfg.filename else f'{runner.timestamp}.py'
            with manifest.own_file(folder, free_name(Path(folder), name), 'config') as unfinished:
                runner.cfg.dump(unfinished)
        else:
            manifest.write_own(folder, 'config.py', 'config', self.text)
        if self.options is not None:
            manifest.write_own(folder, OPTIONS, 'options', json.dumps(self.options, indent=1))

    before_val = before_test = before_train


def free_name(folder: Path, name: str) -> str:
    """Return the name for a run's config: ``name``, unless a file of somebody else has that; then another one."""
    if not os.path.lexists(folder / name) or manifest.is_own(folder, name):
        return name
    if known := manifest.find_kind(folder, 'config'):
        return known[-1]
    stem, number = Path(name).stem, 1
    while os.path.lexists(folder / (name := f'{stem}_of_run{number if number > 1 else ""}.py')):
        number += 1
    return name
