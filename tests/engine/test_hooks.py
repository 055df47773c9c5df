import multiprocessing
import re
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope
from PIL import Image
from tiny_run import masked_photos, read_logs, read_scalars, same, train_by_mmengine, weights

from coma_mm.engine import ReconstructionHook

SEED = 'EpochSeedHook'


@pytest.fixture
def run(tmp_path):
    """Train the tiny config into a folder, with some hooks; return the folder and the log."""

    def train(folder, hooks, **options):
        return tmp_path / folder, train_by_mmengine(tmp_path / folder, *hooks, **options)

    yield train
    for worker in multiprocessing.active_children():  # of mmengine's loops, which wait 5 s for each when they are freed
        worker.terminate()
        worker.join()


@HOOKS.register_module()
class BreakWeightsHook(Hook):
    """An overflow in the optimiser's step."""

    priority = 'VERY_HIGH'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.at:
            runner.model.backbone.patch_embed.weight.data[0, 0] = float('nan')


@pytest.mark.parametrize(('workers', 'persistent'), [(0, False), (2, False), (2, True)])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(run, workers, persistent):
    options = {'train_dataloader.num_workers': workers, 'train_dataloader.persistent_workers': persistent}
    whole, _ = run('whole', [SEED], **options)
    resumed, _ = run('resumed', [SEED], resume=True, load_from=str(whole / 'epoch_1.pth'), **options)
    assert not (resumed / 'epoch_1.pth').exists()
    assert same(whole / 'epoch_2.pth', resumed / 'epoch_2.pth')
    if not workers:
        # The hook is what does it, and pictures do not get in its way.
        without, _ = run('without', [], resume=True, load_from=str(whole / 'epoch_1.pth'))
        assert not same(whole / 'epoch_2.pth', without / 'epoch_2.pth')


def test_seeded_epochs_differ(run):
    """Without learning, what is left of a difference between epochs is in what they draw."""
    options = {
        'train_dataloader.num_workers': 1,
        'optim_wrapper.optimizer.lr': 0,
        'train_dataloader.sampler.shuffle': False,
    }
    folder, _ = run('run', [SEED], **{'model.backbone.drop_path_rate': 0, **options})
    losses = [line['loss_adaptive'] for line in read_scalars(folder)]
    assert len(losses) == len(set(losses)) == 6


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(run, tmp_path):
    options = {
        'param_scheduler': [dict(type='StepLR', step_size=1, gamma=1e35)],
        'default_hooks.checkpoint.max_keep_ckpts': 1,
    }
    with pytest.raises(FloatingPointError) as error:
        run('run', ['StopOnNaNHook', 'ReconstructionHook'], **options)
    good = tmp_path / 'run' / 'epoch_1.pth'
    # The first iteration of epoch 2 does the harm, the second shows it.
    assert 'at iteration 5, so' in str(error.value) and f'--resume {good}' in str(error.value)
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(good)
    assert all(tensor.isfinite().all() for tensor in weights(good).values())
    assert [path.name for path in good.parent.glob('*.pth')] == [good.name]
    # The pictures are those of the first step and epoch: the next would have come after the same check.
    assert read_logs(tmp_path / 'run').count('mean-colour baseline') == 2


@pytest.mark.parametrize(
    ('broken', 'interval', 'expected'),
    [
        (4, 1, 'loss became NaN or infinite at iteration 5'),
        (4, 50, 'loss became NaN or infinite at iteration 5'),  # found at iteration 6, before saving
        (6, 50, 'weights became NaN or infinite in one of the iterations up to 6'),  # no loss has shown it yet
    ],
)
def test_nan_before_a_checkpoint_that_counts_iterations(run, tmp_path, broken, interval, expected):
    options = {
        'default_hooks.checkpoint': dict(type='CheckpointHook', by_epoch=False, interval=3, max_keep_ckpts=1),
    }
    with pytest.raises(FloatingPointError, match=expected):
        hooks = dict(type='BreakWeightsHook', at=broken), dict(type='coma_mm.StopOnNaNHook', interval=interval)
        run('run', hooks, **options)
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_3.pth']


def test_nan_in_the_first_epoch(run):
    with pytest.raises(FloatingPointError, match='no checkpoint had been saved'):
        run('run', ['StopOnNaNHook'], **{'optim_wrapper.optimizer.lr': 1e35})


def test_pictures_knn_and_last_words(run):
    dataset = masked_photos('coffee', 'rocket')
    hook = dict(type='coma_mm.ReconstructionHook', dataset=dataset, interval=1, out='picture.png')
    folder, log = run('run', [SEED, hook, 'KNNHook', 'FinishedHook'])
    assert (folder / 'picture.png').stat().st_size > 10_000
    assert 'coffee.png: reconstruction ' in log and 'rocket.jpg: reconstruction ' in log and 'average of 2: ' in log
    scalars = read_scalars(folder)
    assert [line['step'] for line in scalars if 'psnr_baseline' in line] == [1, 3, 6]
    assert 'random weights ' in log and '898 to compare with, 899 to classify' in log
    assert log.rstrip().endswith('run/epoch_2.pth') and 'run/reconstruction.png; next: ' in log

    # The hooks look on: training is the same without them.
    plain, _ = run('plain', [SEED])
    assert same(folder / 'epoch_2.pth', plain / 'epoch_2.pth')

    # A resumed run remembers where it started, and shows the same masks.
    start = next(line['knn/top1_k20'] for line in scalars if line['step'] == 0)
    assert [line['step'] for line in scalars if 'knn/top1_k20' in line] == [0, 6]
    resumed, log = run('resumed', [SEED, hook, 'KNNHook'], resume=True, load_from=str(folder / 'epoch_1.pth'))
    assert f'random weights {start:.1f} %' in log
    assert (resumed / 'picture.png').read_bytes() == (folder / 'picture.png').read_bytes()


def test_knn_of_loaded_weights_are_not_called_random(run):
    first, _ = run('first', [], **{'train_cfg.max_epochs': 1})
    _, log = run('second', ['KNNHook'], load_from=str(first / 'epoch_1.pth'))
    assert 'loaded weights ' in log and 'random weights' not in log


@pytest.fixture
def labelled(tmp_path):
    """Configs of data sets of images that their classes colour."""
    rng = np.random.default_rng(0)
    for part, count in (('train', 5), ('val', 3)):
        for channel, name in enumerate(('red', 'green')):
            (tmp_path / 'labelled' / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(128, size=(48, 48, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(tmp_path / 'labelled' / part / name / f'{i}.png')
    pipeline = [dict(type='coma_mm.LoadImage'), dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'labelled'), pipeline=pipeline)
    return dict(type='coma_mm.KNNHook', **{part: dict(dataset, data_prefix=part) for part in ('train', 'val')})


def test_knn_of_labelled_folders_every_n_epochs(run, labelled):
    hook = dict(labelled, interval=2, k=3, num_workers=0, batch_size=4, name='colours')
    folder, log = run('run', [hook], **{'train_cfg.max_epochs': 3, 'train_dataloader.dataset.short_side': 64})
    scalars = read_scalars(folder)
    found = {line['step']: line['knn/top1_k3'] for line in scalars if 'knn/top1_k3' in line}
    assert list(found) == [0, 6, 9]  # three iterations each
    assert found[0] == 100  # colours need no learning
    assert f'kNN accuracy on colours after 2 epochs: {found[6]:.1f} %' in log
    end = f'random weights 100.0 %, weights just trained {found[9]:.1f} %'
    assert f'kNN accuracy on colours (10 to compare with, 6 to classify): {end}' in log


def test_knn_needs_labels_that_mean_the_same(labelled, tmp_path):
    (tmp_path / 'labelled' / 'val' / 'green').rename(tmp_path / 'labelled' / 'val' / 'blue')
    with (
        DefaultScope.overwrite_default_scope('mmpretrain'),
        pytest.raises(ValueError, match='to classify have 2 classes, .* to compare with have 2, .* differ in blue'),
    ):
        HOOKS.build(labelled).before_train(None)


@pytest.mark.parametrize(('part', 'what'), [('train', 'to compare with'), ('val', 'to classify')])
def test_knn_needs_labels(run, labelled, part, what):
    labelled[part]['with_label'] = False
    with pytest.raises(ValueError, match=f'KNNHook: the images {what} have no labels'):
        run('run', [dict(labelled, num_workers=0)])


@pytest.mark.parametrize(
    ('begun', 'length', 'interval', 'expected'),
    [
        (0, 1, 12, [1]), (0, 2, 12, [1, 2]), (0, 12, 12, [1, 12]), (0, 19, 5, [1, 5, 10, 15, 19]),
        (0, 100, 40, [10, 40, 80, 100]), (0, 100, 10, [*range(10, 101, 10)]), (0, 300, 20, [*range(20, 301, 20)]),
        (5, 100, 40, [10, 40, 80, 100]), (10, 100, 40, [40, 80, 100]), (60, 100, 40, [80, 100]),
    ],
)  # fmt: skip
def test_the_first_picture_comes_within_a_tenth(begun, length, interval, expected):
    """One comes in short and long runs, and in a run that goes on only if it has not come that far."""
    hook, steps = ReconstructionHook(interval=interval, by_epoch=False), []
    hook.evaluate = lambda runner, step, last: steps.append(step)
    for step in range(begun, length):
        hook.after_train_iter(SimpleNamespace(iter=step, max_iters=length), 0)
    hook.after_train(SimpleNamespace(iter=length, max_iters=length))
    assert steps == expected


@pytest.mark.parametrize('interval', [1, 3])
def test_deferred_losses_are_logged_as_ever(run, interval):
    def scalars(folder, kind):
        hooks = dict(runtime_info=dict(type=kind), logger=dict(type='LoggerHook', interval=interval))
        folder, _ = run(folder, [SEED], default_hooks=hooks)
        return [{key: value for key, value in line.items() if 'time' not in key} for line in read_scalars(folder)]

    logged = scalars('deferred', 'coma_mm.DeferredRuntimeInfoHook')
    assert logged == scalars('at-once', 'RuntimeInfoHook') and 'loss_adaptive' in logged[0]


def test_pictures_show_images_drawn_at_random(run, labelled):
    """Not the first files by name, which may all be of one class; the same ones each time."""
    dataset = dict(
        type='coma_mm.ImageFolder',
        data_root=labelled['train']['data_root'],
        pipeline=[
            dict(type='coma_mm.LoadImage'),
            dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16),
            dict(type='coma_mm.PackMaskedImage'),
        ],
    )
    shown = []
    for seed in (0, 0, 1):
        hook = dict(type='coma_mm.ReconstructionHook', dataset=dataset, num_images=4, seed=seed, by_epoch=False)
        folder, log = run(f'run{len(shown)}', [hook], **{'train_cfg.max_epochs': 1})
        shown.append((folder / 'reconstruction.png').read_bytes())
        names = re.findall(r'^(\d\.png): reconstruction', log, re.MULTILINE)
        assert len(names) == 4 and names != ['0.png', '1.png', '2.png', '3.png']
    assert shown[0] == shown[1] != shown[2]
