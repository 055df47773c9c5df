"""The run's config, beside its results."""

import json
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...files import whole_file, write_whole
from ...registry import HOOKS
from ..recalled_options import OPTIONS


@HOOKS.register_module()
class ConfigHook(Hook):
    """Writes the run's config into its folder once all that could fail before the first step has not.

    mmengine writes it while the runner is built, so that a start that fails has replaced the config of the run that it
    was to go on with. Our tools put this hook in the place of that.

    Args:
        text: Written to ``config.py``, in place of the runner's config under its own name.
        options: Of the command line, kept in ``options.json`` for those who go on with the run.
    """

    priority = 'LOWEST'

    def __init__(self, text: str | None = None, options: dict | None = None):
        self.text = text
        self.options = options

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write."""
        if self.text is None:
            name = Path(runner.cfg.filename).name if runner.cfg.filename else f'{runner.timestamp}.py'
            with whole_file(Path(runner.work_dir, name)) as unfinished:
                runner.cfg.dump(unfinished)
        else:
            write_whole(Path(runner.work_dir, 'config.py'), self.text)
        if self.options is not None:
            write_whole(Path(runner.work_dir, OPTIONS), json.dumps(self.options, indent=1))

    before_val = before_test = before_train
