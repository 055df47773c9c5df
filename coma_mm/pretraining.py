"""``coma_mm.pretrain``: from a folder of images to weights; all settings follow from the data and the machine."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .engine.common import find_steps
from .export.weights import export
from .planning import plan_pretraining
from .running import link_checkpoint, run
from .settings import PretrainSettings
from .utils.clock import command
from .utils.paths import quoted_path, short_path
from .utils.text import one_line, printable

HANDED_OVER = 'last.pth', 'backbone.safetensors'  # names in the run's folder


@command()
def pretrain(
    data: str | PathLike | Sequence[str | PathLike] | None,
    out: str | PathLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    serve: int | None = None,
    **settings: Any,
) -> Path:
    """Pre-train a backbone on images without labels.

    Args:
        data: Folders of images, sub-folders and all, or ``.txt`` files of their paths.
        out: The run's folder. At the end it has ``backbone.safetensors``, ``last.pth``, ``config.py``,
            ``reconstruction.png``, and the run's logs and newest checkpoints.
        resume: Go on with the run in ``out``; nothing else may be given, as all settings come from that run.
        overwrite: Replace the results of an earlier run in ``out``.
        serve: Port at which the report is shown on this machine, while this process lives.
        **settings: Those of a new run, such as ``arch='small', batch_size=64, minutes=60``: the options that
            ``coma-mm pretrain --help`` lists, as :class:`.PretrainSettings` names them.

    Returns:
        The file of the backbone's weights.

    Raises:
        FileNotFoundError: If there are no images, or no run to go on with.
        ValueError: If a setting is impossible.
        KeyboardInterrupt: After Ctrl-C, or a notebook's stop button: while the run trains a checkpoint is saved first,
            from which ``resume=True`` goes on. A second Ctrl-C is obeyed at once.
        RunInterrupted: After SIGTERM, SIGHUP or SIGUSR1, once a checkpoint is saved; a ``SystemExit``.
    """
    runner = run(PretrainSettings, data, out, settings, resume, overwrite, serve, HANDED_OVER, plan_pretraining)
    mask = next(find_steps(runner.cfg.train_dataloader, ('ComplementaryMask',)))
    return hand_over(Path(runner.work_dir), mask.input_size)


def hand_over(out: Path, size: int) -> Path:
    """Write what others take from a finished run on crops of ``size`` px: ``last.pth``, ``backbone.safetensors``."""
    out = out.absolute()
    last, backbone = link_checkpoint(out, HANDED_OVER[0]), out / HANDED_OVER[1]
    export(str(last), str(backbone), prefix='backbone.', kind='weights')
    folder = quoted_path(out)
    print(one_line(f'{short_path(out)} has {HANDED_OVER[1]}, and report.html with curves and pictures'))
    # Larger maps have more positions, and better features (docs/evidence.md, Size of the images).
    print(printable(f'next: coma-mm compare {folder} LABELLED --size {2 * size}  (features better than at {size} px)'))
    print(printable(f'or:   coma-mm finetune {folder} LABELLED --out NEW'))
    return backbone
