import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from PIL import Image
from tiny_run import read_scalars, same, train_by_mmengine

from coma_mm.datasets import Photos
from coma_mm.engine import QualityHook
from coma_mm.evaluation import dead_channels

PHOTOS = dict(
    type='coma_mm.Photos',
    names=['coffee', 'rocket', 'camera', 'chelsea'],
    pipeline=[dict(type='CenterCrop', crop_size=48)],
    short_side=48,
)


@HOOKS.register_module()
class CollapseHook(Hook):
    """Makes one channel and then all of them say nothing."""

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == 2:
            runner.model.backbone.norm3.weight.data[:32] = 0
        if runner.iter + 1 == 4:
            runner.model.backbone.norm3.weight.data[1:] = 0


@pytest.fixture
def run(tmp_path):
    def train(folder, hooks, **options):
        log = train_by_mmengine(tmp_path / folder, 'EpochSeedHook', *hooks, **options)
        measured = [line for line in read_scalars(tmp_path / folder) if 'quality/loss' in line]
        return tmp_path / folder, measured, log

    return train


def test_measures_before_meanwhile_and_after(run, tmp_path):
    for number in range(12):
        path = tmp_path / f'labelled/{number % 2}/{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (50, 60), (250 * (number % 2), 10 * number, 100)).save(path)
    labels = str(tmp_path / 'labelled')
    hook = dict(type='coma_mm.QualityHook', dataset=PHOTOS, interval=2, by_epoch=False, labels=labels)
    folder, measured, log = run('run', [hook])
    assert [line['step'] for line in measured] == [1, 2, 4, 6]
    names = 'loss', 'loss_evaluation', 'psnr', 'psnr_assembled', 'rankme', 'dead_channels', 'probe'
    assert set(measured[0]) == {'step', *(f'quality/{name}' for name in names)}
    assert measured[-1]['quality/loss'] < measured[0]['quality/loss'] and 1 <= measured[0]['quality/rankme'] <= 4
    assert 'probe with 5 labels a class 100.0 %' in log and measured[0]['quality/probe'] >= 50
    assert '4 held-out images: loss ' in log and 'WARNING - the ' not in log

    # A resumed run goes on, does not measure its half-trained weights as those of the first step, and ends at the same.
    _, resumed, _ = run('resumed', [hook], resume=True, load_from=str(folder / 'epoch_1.pth'))
    assert [line['step'] for line in resumed] == [4, 6] and resumed[-1] == measured[-1]

    # It looks on: training is the same without it.
    plain, _, _ = run('plain', [])
    assert same(folder / 'epoch_2.pth', plain / 'epoch_2.pth')


@HOOKS.register_module()
class NoteTypeHook(Hook):
    """Notes the type of the last map of whole images."""

    types = set()

    def before_train(self, runner):
        runner.model.backbone.stages[-1].blocks[-1].mlp[0].register_forward_hook(
            lambda module, args, result: None if module.training else self.types.add(result.dtype)
        )

    priority = 'VERY_HIGH'


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_measures_in_the_precision_of_training(run, dtype):
    NoteTypeHook.types.clear()
    hooks = [dict(type='NoteTypeHook'), dict(type='coma_mm.QualityHook', dataset=PHOTOS)]
    _, measured, _ = run('run', hooks, optim_wrapper=dict(type='coma_mm.AutocastOptimWrapper', dtype=dtype))
    assert getattr(torch, dtype) in NoteTypeHook.types and len(measured) == 2


@DATASETS.register_module()
class SharedPhotos(Photos):
    """Counts how often it is built."""

    built = 0

    def __init__(self, **kwargs):
        SharedPhotos.built += 1
        super().__init__(**kwargs)


def test_hooks_share_their_data_set(run):
    SharedPhotos.built = 0
    mask = dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16)
    packed = [*PHOTOS['pipeline'], mask, dict(type='coma_mm.PackMaskedImage')]
    dataset = {**PHOTOS, 'type': 'SharedPhotos', 'pipeline': packed}
    names = 'QualityHook', 'FeaturesHook', 'ReconstructionHook'
    run('run', [dict(type=f'coma_mm.{name}', dataset=dataset, num_images=2) for name in names])
    assert SharedPhotos.built == 1


def test_says_once_what_is_wrong(run):
    hook = dict(type='coma_mm.QualityHook', interval=1, by_epoch=False, collapse=0.6)
    _, measured, log = run('run', [dict(type='CollapseHook'), hook])
    dead = {line['step']: line['quality/dead_channels'] for line in measured}
    assert dead[2] == 0.5 and dead[4] > 0.9
    assert log.count('50% of the channels of the last map have the same value in all training images after 2') == 1
    assert log.count('they are dead') == 1
    assert log.count('the features collapse: RankMe of training images has fallen from') == 1


def test_loss_that_rises_while_that_of_training_falls():
    hook = QualityHook(patience=2)

    def problems(losses, train):
        points = [
            dict(step=10 * i, loss=loss, train_loss=value, rankme=5.0, dead_channels=0.0)
            for i, (loss, value) in enumerate(zip(losses, train))
        ]
        hook.state = dict(measured=points, warnings=[])
        return list(hook._problems('held-out'))

    ((kind, sentence),) = problems([1.0, 0.5, 0.6, 0.7], [None, 0.9, 0.5, 0.4])
    assert kind == 'rising' and 'has risen 2 times in a row, from 0.5000 to 0.7000 after 30 iterations' in sentence
    assert 'while the training loss fell from 0.9000 to 0.4000' in sentence
    assert not problems([1.0, 0.5, 0.6, 0.7], [None, 0.3, 0.4, 0.5])  # both rise: not by heart
    assert not problems([1.0, 0.7, 0.6, 0.7], [None, 0.9, 0.5, 0.4])  # once only
    assert not problems([1.0, 1.1], [None, 0.9])


def test_dead_channels():
    features = torch.randn(100, 8)
    assert dead_channels(features) == 0
    features[:, 2:6] = features[:, 2:6] * 1e-4 + 5
    assert dead_channels(features) == 0.5
    assert dead_channels(torch.ones(10, 4)) == 1
