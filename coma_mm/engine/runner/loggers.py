"""Loggers beside the log file, in any config (``--log``): TensorBoard, Weights & Biases and MLflow.

Those of W&B and MLflow derive from mmengine's: steps and pictures arrive as they should, and runs are continued.
"""

import importlib.util
import os
import re
import uuid
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env
from torch import Tensor

from ...registry import VISBACKENDS
from ...utils import manifest
from ...utils.configs import type_name
from ...utils.reading import read_text
from ...visualization.run_files import keep_picture

# Types of backends by the name of the option, which is that of the package that they need.
BACKENDS = dict(tensorboard='TensorboardVisBackend', wandb='coma_mm.WandbBackend', mlflow='coma_mm.MLflowBackend')


def check_loggers(names: Any) -> None:
    """Refuse anything but a list of loggers, and loggers whose package is missing."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(name in [*BACKENDS] for name in names):
        raise ValueError(f'log must be a list of {", ".join(BACKENDS)}, got {names!r}')
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f'--log {name} needs a package that is not installed: pip install {name}')


def add_loggers(cfg: Config, args: Namespace) -> None:
    """Add what ``--log`` names to a config of any toolbox; see :func:`check_loggers`."""
    names = getattr(args, 'log', None) or ()
    check_loggers(names)
    places: dict[str, dict] = dict(
        wandb=dict(id_file=os.path.join(cfg.work_dir, 'wandb_id.txt')),
        mlflow=dict(save_dir=os.path.abspath(os.path.join(cfg.work_dir, 'mlruns'))),
    )
    visualizer = cfg.get('visualizer') or dict(type='mmengine.Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    backends = [*(visualizer.get('vis_backends') or [])]
    for name in dict.fromkeys(names):
        known = [type_name(backend['type']).replace('Vis', '') for backend in backends]
        if type_name(BACKENDS[name]).replace('Vis', '') not in known:
            backends.append(dict(type=BACKENDS[name], **places.get(name, {})))
    ours = {type_name(BACKENDS[name]): place for name, place in places.items()}
    for backend in backends:
        for name, place in ours.get(type_name(backend['type']), {}).items():
            # the id is a file of the run's; other places may be those of another run, which has written the config
            if name == 'id_file' or manifest.has_manifest(Path(backend.get(name, '')).parent):
                backend[name] = place
        if type_name(backend['type']) == 'WandbBackend' and hasattr(args, 'resume'):
            backend['resume'] = bool(args.resume)
    if names:
        cfg.visualizer = ConfigDict({**visualizer, 'vis_backends': backends})


@contextmanager
def _naming(name: str, remedy: str) -> Iterator[None]:
    """Name the logger, and what to type, in errors of its start."""
    try:
        yield
    except Exception as error:  # of any kind
        reason = str(error).strip().partition('\n')[0][:300].rstrip('.') or type(error).__name__
        raise ValueError(f'--log {name} cannot begin: {reason}; {remedy}, or leave it out of --log') from error


@master_only
def log_picture(runner: Runner, name: str, picture: np.ndarray, step: int) -> None:
    """Hand a picture (H, W, 3), uint8, RGB, to all loggers, and keep a small copy for the report.

    mmengine's local files do not get it: the copy is one.
    """
    for backend in runner.visualizer._vis_backends.values():
        if not isinstance(backend, LocalVisBackend):
            backend.add_image(name, picture, step)
    keep_picture(runner.work_dir, name, picture, step)
    runner.message_hub.update_info('last_picture', f'{name} {step}')


@VISBACKENDS.register_module()
class WandbBackend(WandbVisBackend):
    """mmengine's backend of Weights & Biases, which logs over the steps of training and goes on with a resumed run.

    mmengine's drops the step, so that W&B counts calls, and uploads all Python files of the current folder.

    Args:
        save_dir: Folder of W&B's files.
        id_file: Keeps the run's id.
        resume: Whether to go on with the run of that id.
        **kwargs: mmengine's.
    """

    def __init__(self, save_dir: str, id_file: str, resume: bool = False, **kwargs: Any):
        self.id_file = Path(id_file)
        self.resume = resume
        self.name = self.id_file.absolute().parent.name
        kwargs.setdefault('define_metric_cfg', [dict(name='*', step_metric='step')])
        super().__init__(save_dir, **kwargs)

    def _init_env(self) -> None:
        known = read_text(self.id_file, 1000, follow=False).strip() if self.resume and self.id_file.is_file() else None
        defaults = dict(id=known or uuid.uuid4().hex[:8], name=self.name, allow_val_change=True)
        self._init_kwargs: dict = {**defaults, **(dict(resume='allow') if known else {}), **(self._init_kwargs or {})}
        with _naming('wandb', 'wandb login, or WANDB_MODE=offline'):
            super()._init_env()
        manifest.write_own(self.id_file.parent, self.id_file.name, 'id', self._init_kwargs['id'])

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        self._wandb.config.update(config.to_dict(), allow_val_change=True)

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        self._wandb.log({name: self._wandb.Image(image), 'step': step})

    @force_init_env
    def add_scalar(self, name: str, value: float | Tensor | np.ndarray, step: int = 0, **kwargs: Any) -> None:
        self.add_scalars({name: value}, step)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        self._wandb.log({**scalar_dict, 'step': step})

    def close(self) -> None:
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@VISBACKENDS.register_module()
class MLflowBackend(MLflowVisBackend):
    """mmengine's backend of MLflow, which also takes our configs and pictures.

    It logs to the server in ``MLFLOW_TRACKING_URI``, without one to files in the work dir, and leaves other files of
    the run where they are.

    Args:
        save_dir: Folder of the files.
        **kwargs: mmengine's.
    """

    def __init__(self, save_dir: str, **kwargs: Any):
        kwargs['tracking_uri'] = kwargs.get('tracking_uri') or os.environ.get('MLFLOW_TRACKING_URI')
        if kwargs['tracking_uri'] is None:
            os.environ.setdefault('MLFLOW_ALLOW_FILE_STORE', 'true')  # without it MLflow 3 refuses files
        for name, most in dict(MAX_RETRIES='2', TIMEOUT='20').items():  # or a server that is gone holds the run up
            os.environ.setdefault(f'MLFLOW_HTTP_REQUEST_{name}', most)
        kwargs.setdefault('artifact_suffix', '.log')
        super().__init__(save_dir, **kwargs)

    def _init_env(self) -> None:
        with _naming('mlflow', 'correct MLFLOW_TRACKING_URI, or unset it for files in the work dir'):
            super()._init_env()

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config as text, and its settings as parameters, by names and lengths that MLflow accepts."""
        self.cfg = config
        parameters = {
            re.sub(r'[^\w\-. /]', '_', key): str(value)[:500] for key, value in self._flatten(config.to_dict()).items()
        }
        self._mlflow.log_params(parameters)
        self._mlflow.log_text(config.pretty_text, 'config.py')

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        super().add_image(f'{name}/{step:08}.png', image, step)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        super().add_scalars({key: value for key, value in scalar_dict.items() if np.isscalar(value)}, step)
