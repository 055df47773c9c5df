"""The run's config, beside its results."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from ...files import whole_file, write_whole
from ...registry import HOOKS


@HOOKS.register_module()
class ConfigHook(Hook):
    """Writes the run's config into its folder once all that could fail before the first step has not.

    mmengine writes it while the runner is built, so that a start that fails has replaced the config of the run that it
    was to go on with. Our tools put this hook in the place of that.

    Args:
        text: Written to ``config.py``, in place of the runner's config under its own name.
    """

    priority = 'LOWEST'

    def __init__(self, text: str | None = None):
        self.text = text

    @master_only
    def before_train(self, runner) -> None:
        """Write."""
        if self.text is None:
            name = Path(runner.cfg.filename).name if runner.cfg.filename else f'{runner.timestamp}.py'
            with whole_file(Path(runner.work_dir, name)) as unfinished:
                runner.cfg.dump(unfinished)
        else:
            write_whole(Path(runner.work_dir, 'config.py'), self.text)

    before_val = before_test = before_train
