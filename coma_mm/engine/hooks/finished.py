"""What to do next, when training is done."""

from mmengine.dist import master_only
from mmengine.hooks import Hook

from ...registry import HOOKS
from ..common import short_path


@HOOKS.register_module()
class FinishedHook(Hook):
    """Logs a text after everything else at the end of training.

    Args:
        text: May contain ``{work_dir}``, ``{checkpoint}`` (the last one) and ``{config}``, which become paths to type
            from the current directory.
    """

    priority = 'LOWEST'

    def __init__(self, text: str):
        self.text = text

    @master_only
    def after_train(self, runner) -> None:
        """Log the text."""
        paths = dict(
            work_dir=runner.work_dir,
            checkpoint=runner.message_hub.get_info('last_ckpt'),
            config=runner.cfg.filename,
        )
        paths = {key: short_path(path) if path else f'(no {key})' for key, path in paths.items()}
        runner.logger.info(self.text.format(**paths))
