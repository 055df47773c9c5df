"""Entries of other loggers, read back by their own means."""

import struct
import sys

import pytest
from mmengine.config import Config
from tiny_run import TINY, read

from coma_mm.engine.runner import loggers
from coma_mm.engine.runner.build import build_runner
from coma_mm.utils import manifest

LOGGERS = ['tensorboard', 'wandb', 'mlflow']
PICTURES = {'reconstruction': [1, 3, 6], 'features': [3, 6], 'neighbours': [3, 6]}  # and when they come


HOOKS = [
    dict(type='coma_mm.EpochSeedHook'),
    dict(type='coma_mm.ReconstructionHook', num_images=1, interval=1),
    dict(type='coma_mm.FeaturesHook', num_images=1, num_gallery=2, interval=1),
    dict(type='coma_mm.QualityHook', num_images=2, interval=1),
    dict(type='coma_mm.ReportHook'),
]


def prepare(work_dir, log, config=TINY, **options):
    return read(work_dir, dict(custom_hooks=HOOKS) | options, config=config, log=log)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A run of two epochs, logged everywhere, and one that goes on from the first of them."""
    folder = tmp_path_factory.mktemp('logged') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('WANDB_MODE', 'offline')
        patch.setenv('WANDB_SILENT', 'true')
        patch.delenv('MLFLOW_TRACKING_URI', raising=False)
        build_runner(prepare(folder, LOGGERS)).train()
        build_runner(read(folder, dict(custom_hooks=[]), folder / 'epoch_1.pth', log=['wandb'])).train()
        yield folder


def test_a_logger_that_cannot_begin_says_what_to_type():
    with pytest.raises(ValueError, match='--log x cannot begin: no key; log in, or leave it out of --log'):
        with loggers._naming('x', 'log in'):
            raise RuntimeError('no key.\nmore')


def test_tensorboard(work_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(work_dir.glob('*/vis_data/events.*')).parent), dict(images=0, scalars=0))
    events.Reload()
    assert {'loss', 'lr', 'psnr', 'quality/rankme'} <= set(events.Tags()['scalars'])
    assert [event.step for event in events.Scalars('loss')] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars('psnr')] == [1, 3, 6]
    assert set(events.Tags()['images']) == {*PICTURES}
    for name, steps in PICTURES.items():
        images = events.Images(name)
        assert [image.step for image in images] == steps and images[0].width > 300


def read_wandb(path):
    """Yield the records of a file of W&B: a log of LevelDB's format after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b':W&B'
    place, parts = 7, b''
    while place < len(data):
        if 32768 - place % 32768 < 7:  # blocks end in padding
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack('<IHB', data[place : place + 7])
        if kind == 0:
            break
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b''


def test_wandb(work_dir):
    files = sorted(work_dir.glob('*/vis_data/wandb/offline-run-*/run-*.wandb'))
    assert len(files) == 2
    history, ids, configs, metrics = [], [], [], []
    for path in files:
        history.append([])
        for record in read_wandb(path):
            kind = record.WhichOneof('record_type')
            if kind == 'history':
                items = {item.key or '/'.join(item.nested_key): item.value_json for item in record.history.item}
                history[-1].append(items)
            elif kind == 'run':
                ids.append(record.run.run_id)
                configs += [item.key for item in record.run.config.update]
            elif kind == 'config':
                configs += [item.key for item in record.config.update]
            elif kind == 'metric':
                metrics.append((record.metric.glob_name or record.metric.name, record.metric.step_metric))
    assert ('*', 'step') in metrics and 'model' in configs
    # Each number has its step, also those that are logged less often.
    assert [int(line['step']) for line in history[0] if 'loss' in line] == [1, 2, 3, 4, 5, 6]
    assert [int(line['step']) for line in history[0] if 'quality/rankme' in line] == [1, 3, 6]
    for name, steps in PICTURES.items():
        keys = [line for line in history[0] if any(key.startswith(name) for key in line)]
        assert [int(line['step']) for line in keys] == steps
        assert len(list(files[0].parent.glob(f'files/media/images/{name}_*.png'))) == len(steps)
    # The resumed run is the same run.
    assert [int(line['step']) for line in history[1] if 'loss' in line] == [4, 5, 6]
    assert len(set(ids)) == 1 and (work_dir / 'wandb_id.txt').read_text() == ids[0]
    # No code of the user's is taken along.
    assert not list(files[0].parent.glob('files/code')) and not list(files[0].parent.glob('artifacts/*'))


def test_mlflow(work_dir):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f'file://{work_dir / "mlruns"}')
    (experiment,) = client.search_experiments()
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == 'FINISHED' and run.data.params['model.type'] == 'coma_mm.CoMA'
    assert [point.step for point in client.get_metric_history(run.info.run_id, 'loss')] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in client.get_metric_history(run.info.run_id, 'psnr')] == [1, 3, 6]
    for name, steps in PICTURES.items():
        files = [file.path for file in client.list_artifacts(run.info.run_id, name)]
        assert files == [f'{name}/{step:08}.png' for step in steps]
    assert 'config.py' in [file.path for file in client.list_artifacts(run.info.run_id)]


def test_local_files_hold_no_picture_twice(work_dir):
    names = {f'{name}_{step}.jpg' for name, steps in PICTURES.items() for step in steps}
    assert {path.name for path in (work_dir / 'pictures').glob('*.jpg')} == names
    assert not list(work_dir.glob('*/vis_data/vis_image'))
    text = (work_dir / 'report.html').read_text()
    assert 'epoch 1, iteration 3' in text and 'Finished.' in text and 'Nearest neighbours' in text


@pytest.mark.parametrize('visualizer', [None, dict(type='DetLocalVisualizer', vis_backends=[], name='visualizer')])
def test_any_config(tmp_path, visualizer):
    cfg = prepare(tmp_path, ['tensorboard', 'wandb'], visualizer=visualizer)
    kinds = [backend.type for backend in cfg.visualizer.vis_backends]
    assert kinds[-2:] == ['TensorboardVisBackend', 'coma_mm.WandbBackend']
    assert visualizer is None or cfg.visualizer.type == 'DetLocalVisualizer'
    # One that is there already is not there twice.
    (tmp_path / 'again.py').write_text(f'_base_ = {str(TINY)!r}\nvisualizer = {cfg.visualizer.to_dict()!r}')
    again = prepare(tmp_path, ['wandb', 'tensorboard'], tmp_path / 'again.py')
    assert [backend.type for backend in again.visualizer.vis_backends] == kinds
    assert 'visualizer' not in Config.fromfile(TINY) and not list(tmp_path.glob('*.txt'))


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ValueError, match='^--log wandb needs a package that is not installed: pip install wandb'):
        prepare(tmp_path, ['wandb'])
    assert not list(tmp_path.iterdir())


def test_loggers_of_a_written_config_follow_the_run(tmp_path):
    first = prepare(tmp_path / 'first', LOGGERS)
    first.dump(tmp_path / 'config.py')
    again = tmp_path / 'second', None, tmp_path / 'config.py'
    *_, wandb, mlflow = prepare(*again).visualizer.vis_backends
    assert mlflow == first.visualizer.vis_backends[-1]  # a place that is no run's is the user's choice
    assert wandb.id_file == str(tmp_path / 'second/wandb_id.txt')  # a file of the run
    manifest.write_own(tmp_path / 'first', 'config.py', 'config', '')
    second = prepare(*again)
    assert len(second.visualizer.vis_backends) == 4 and 'first' not in str(second.visualizer)
