"""The next command to type, when training is done."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils.paths import short_path

PLACES = ('work_dir', 'checkpoint', 'config')


@HOOKS.register_module()
class FinishedHook(Hook):
    """Logs a text after everything else at the end of training.

    Args:
        text: May contain ``{work_dir}``, ``{checkpoint}`` (the last one) and ``{config}``, which become paths to type
            from the current directory.
    """

    priority = 'LOWEST'

    def __init__(self, text: str):
        try:
            text.format(**dict.fromkeys(PLACES, ''))
        except (AttributeError, IndexError, KeyError, ValueError) as error:  # and not when training is done
            raise ValueError(
                f'text of FinishedHook must be a text with {", ".join(f"{{{name}}}" for name in PLACES)} in it and no '
                f'other braces, got {text!r} ({error})'
            ) from None
        self.text = text

    @master_only
    def after_train(self, runner: Runner) -> None:
        paths = dict(
            work_dir=runner.work_dir,
            checkpoint=runner.message_hub.get_info('last_ckpt'),
            config=runner.cfg.filename,
        )
        paths = {key: short_path(path) if path else f'(no {key})' for key, path in paths.items()}
        runner.logger.info(self.text.format(**paths))
