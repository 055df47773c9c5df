"""``coma-mm pretrain``: a folder in, weights out, as its users call it."""

import json
import math
import re
import subprocess
import sys
from shutil import copytree

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from PIL import Image
from processes import TOOLS

import coma_mm
from coma_mm import settings, trial
from coma_mm.checkpoints.reading import read_checkpoint
from coma_mm.cli import COMMANDS
from coma_mm.engine.hooks.progress import end_after
from coma_mm.models import CoMA, DyViT
from coma_mm.planning import (
    METHOD_TITLES,
    advise_length,
    choose_batch,
    choose_length,
    describe_end,
    find_short_side,
    fit_size,
)
from coma_mm.pretraining import hand_over
from coma_mm.recipe import METHODS, PASSES, choose_encoder, make_config
from coma_mm.settings import DEFAULT_METHOD, PretrainSettings
from coma_mm.trial import Trial


def plan(accumulate=1, **given):
    return make_config(PretrainSettings(['images'], 'out', arch='pico', **given), accumulate=accumulate)


OPTIONS = dict(arch='pico', size=32, batch_size=4, workers=0)


def test_from_a_folder_to_weights(photos, call, tmp_path):
    command = [sys.executable, '-m', 'coma_mm', 'pretrain', photos, '--out', 'run', '--arch', 'pico', '--steps', '6']
    command += ['--size', '32', '--batch-size', '4', '--workers', '0', '--val', '0.2']
    env = dict(PYTHONPATH=str(TOOLS.parent), OMP_NUM_THREADS='1', PATH='/usr/bin:/bin', CUDA_VISIBLE_DEVICES='')
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith('coma_mm ') and f'pre-training on {photos}' in lines[0]
    opening = (
        r'12 images found, 2 of them held out.\nDyViT-pico and its decoder, [\d.]+ M parameters, by masked '
        r'autoencoding, on crops of 32 px in patches of 1 px.\n'
        r'6 steps of 4 images \(2\.4 passes\), on the CPU \(1 thread\), '
    )
    assert re.search(opening, done.stdout)
    assert lines[1].startswith('looking at the images in ') and lines[2].startswith('12 images; trying some steps')
    assert 'That shows 24 images in all, too few for useful features' in done.stdout
    said = ' '.join(done.stdout.split())
    assert 'short runs: --init coma_mm://dyvit-p_cifar10_taught --size 32.' in said and '--method align.' in said
    assert 'step 1  loss ' in done.stdout and 'step 6/6  loss ' in done.stdout and 'images/s' in done.stdout
    assert lines[-2:] == [
        'next: coma-mm compare run LABELLED --size 64  (features better than at 32 px)',
        'or:   coma-mm finetune run LABELLED --out NEW',
    ]
    assert len(lines) < 20 and not done.stderr  # nothing that one cannot act on
    run = tmp_path / 'run'
    assert {'backbone.safetensors', 'last.pth', 'config.py', 'reconstruction.png'} <= {x.name for x in run.iterdir()}
    model = DyViT('pico', img_size=32, patch_size=1)
    model.load_state_dict(read_checkpoint(run / 'backbone.safetensors')['state_dict'])
    cfg = Config.fromfile(run / 'config.py')
    assert cfg.model.decoder.dim == 128 and cfg.param_scheduler[-1].end == 6
    held_out = [hook.dataset.part for hook in cfg.custom_hooks if 'dataset' in hook]
    assert cfg.train_dataloader.dataset.part == 'train' and held_out == ['val'] * 3

    # A second run does not touch the first.
    assert 'error: run has results of an earlier run' in call(*command[3:], succeeds=False)


def test_going_on_needs_no_options(photos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    copytree(photos, 'data')
    whole = coma_mm.pretrain('data', 'whole', steps=4, **OPTIONS)
    copytree('whole', 'part')
    for name in ('iter_4.pth', 'last.pth', 'backbone.safetensors'):
        (tmp_path / 'part' / name).unlink()  # as if it had been killed in the last step
    text = (tmp_path / 'part/config.py').read_text()
    part = coma_mm.pretrain(None, 'part', resume=True)
    assert (tmp_path / 'part/config.py').read_text() == text
    one, other = (read_checkpoint(path)['state_dict'] for path in (whole, part))
    assert all(torch.equal(one[name], other[name]) for name in one)
    changed = 'the images are not those that the run began with'
    printed = ''.join(capfd.readouterr())
    assert changed not in printed and 'the run is complete' not in printed
    coma_mm.pretrain(None, 'part', resume=True)
    assert 'the run is complete: 4 of 4 steps' in capfd.readouterr().out

    (tmp_path / 'data/another.jpg').write_bytes(next(photos.iterdir()).read_bytes())
    for name in ('iter_4.pth', 'last.pth', 'backbone.safetensors'):
        (tmp_path / 'part' / name).unlink()
    coma_mm.pretrain(None, 'part', resume=True)
    assert changed in ''.join(capfd.readouterr())


def test_masks_are_named_and_left_out(photos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/Masks').mkdir(parents=True)
    for path in sorted(photos.iterdir())[:6]:
        for name in (path.name, f'{path.stem}_mask.PNG', f'Masks/{path.name}'):
            (tmp_path / 'data' / name).write_bytes(path.read_bytes())
    options = dict(steps=2, crop_scale=(0.5, 1), no_flip=True, log=['tensorboard'], **OPTIONS)
    coma_mm.pretrain('data', 'run', exclude=['*_mask.png'], **options)
    out, err = capfd.readouterr()
    assert "6 images left out by exclude (6 by '*_mask.png')." in out
    (line,) = err.splitlines()
    assert (
        line.startswith('warning: images with names as masks of others have: 6;')
        and "--exclude '*_mask.png' 'Masks/*'" in line
    )
    dataset = Config.fromfile('run/config.py').train_dataloader.dataset
    assert dataset.exclude == ['*_mask.png']
    assert dataset.pipeline[0].crop_ratio_range == (0.5, 1) and dataset.pipeline[1].prob == 0
    coma_mm.pretrain(None, 'run', resume=True)
    assert len(list((tmp_path / 'run').rglob('events.out.tfevents*'))) == 2  # also of the run that goes on


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match='give data, a folder of images, or resume=True to go on with the run in'):
        coma_mm.pretrain(None, str(tmp_path))
    with pytest.raises(FileNotFoundError, match='has no whole checkpoint'):
        hand_over(tmp_path, 32)


def test_any_number_of_channels_of_any_depth_and_a_report_to_look_at(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'bands'
    folder.mkdir()
    for number in range(8):
        bands = np.random.default_rng(number).integers(4096, size=(40, 48, 5), dtype=np.uint16)
        tifffile.imwrite(folder / f'{number}.tif', bands, photometric='minisblack', planarconfig='contig')
    for name in ('a.heic', 'b.heic', 'c.xcf'):
        (folder / name).touch()
    coma_mm.pretrain(str(folder), 'run', steps=2, channels=5, val=0.25, serve=0, **OPTIONS)
    backbone = coma_mm.load_backbone('run/backbone.safetensors')
    assert backbone(torch.zeros(1, 5, 32, 32))[-1].shape[1] == 256
    printed = capfd.readouterr().out
    assert 'Values 0 to 4095 become 0 to 255 (by 6 of the images).\nLeft out: 2 .heic, 1 .xcf.' in printed
    step = Config.fromfile('run/config.py').train_dataloader.dataset.pipeline[0]
    assert step.value_range == [0, 4095] and step.channels == 5
    assert json.loads(read_checkpoint('run/backbone.safetensors')['meta']['value_range']) == [0, 4095]


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        ('', 'name a folder of images'),
        ('FOLDER --size 100', 'give size 96 or 112'),
        ('FOLDER --crop-scale 1 0.5', 'argument --crop-scale: give the smaller share first'),
        ('FOLDER --exclude *_m.png 1*', "no image matches '*_m.png' of --exclude"),
        ('FOLDER --exclude *.png', 'no image is left: 12 images left out by exclude'),
        ('--resume --no-flip --log wandb', 'leave --no-flip, --log out'),
        ('FOLDER --resume', 'leave the images out'),
    ],
)
def test_what_cannot_start(call, photos, tmp_path, args, error):
    assert error in call('pretrain', *args.replace('FOLDER', str(photos)).split(), '--out', 'x', succeeds=False)
    assert not list(tmp_path.iterdir())


def test_commands_have_help(call):
    assert call('--version') == f'coma_mm {coma_mm.__version__}\n'
    printed = call('--help')
    assert all(f'  {name} ' in printed for name in COMMANDS)
    assert "there is no command 'pretrian'" in call('pretrian', succeeds=False)


@pytest.mark.parametrize('steps', [1, 7, 100, 100_000])
def test_all_follows_from_the_length(steps):
    cfg = plan(steps=steps)
    *warm_up, cosine = cfg.param_scheduler
    assert [part.end for part in warm_up] == ([round(steps / 10)] if steps > 15 else [])
    assert cosine.begin == (warm_up[0].end if warm_up else 0) and cosine.end == cfg.train_cfg.max_iters == steps
    names = ('FeaturesHook', 'QualityHook', 'ReconstructionHook')
    evaluating = [hook for hook in cfg.custom_hooks if hook.type.endswith(names)]
    assert len(evaluating) == 3 and {hook.by_epoch for hook in evaluating} == {False}
    assert 1 <= cfg.default_hooks.checkpoint.interval <= max(1, steps / 10)
    (interval,) = {hook.interval for hook in evaluating}
    assert interval * 64 >= 750 and (interval <= steps / 10 or steps < 200)  # looks take a fifth of a run at most


def test_every_method_has_a_name_and_a_model():
    assert settings.METHODS == tuple(METHODS) == tuple(METHOD_TITLES) and DEFAULT_METHOD in METHODS
    found = {}
    for name, chosen in METHODS.items():
        cfg = plan(size=32, method=name)
        model = CoMA(cfg.model.backbone, cfg.model.decoder, **{key: cfg.model[key] for key in chosen.model})
        ratio = cfg.train_dataloader.dataset.pipeline[2].ratio
        found[name] = model.evaluation_mode, model.predict_visible, model.keep_apart, ratio
    assert found == dict(mae=('off', 0, 0.3, 0.75), coma=('copy', 0, 0, 0.6), align=('align', 1, 1, 0.6))
    assert plan(mask_ratio=0.5).train_dataloader.dataset.pipeline[2].ratio == 0.5


@pytest.mark.parametrize(('size', 'patch'), [(224, 4), (96, 2), (64, 2), (32, 1), (512, 4)])
def test_patches_suit_the_size(size, patch):
    for arch, times in (('tiny', 1), ('vit-tiny', 4)):
        settings = PretrainSettings(['images'], 'out', arch=arch, size=size)
        assert choose_encoder(settings).backbone['patch_size'] == times * patch


def test_a_cpu_that_multiplies_in_bf16_does_so():
    wrapper = plan().optim_wrapper
    assert wrapper.type == 'coma_mm.AutocastOptimWrapper' and wrapper.cpu  # see tests/engine/test_optim.py


@pytest.mark.parametrize(
    'images, fitting, on_gpu, batch, accumulate',
    [
        (10_000, 10_000, False, 64, 1),
        (10_000, 10_000, True, 1024, 1),
        (10_000, 0.3, False, 16, 4),  # the memory is all but full
        (10_000, 40, True, 32, 32),
        (300, math.inf, False, 64, 1),  # of memory nothing is known
        (40, 1000, True, 32, 1),
        (3, 0.0, False, 2, 1),
    ],
)
def test_a_step_has_64_images_in_parts_of_16_or_more(images, fitting, on_gpu, batch, accumulate):
    assert choose_batch(images, fitting, on_gpu) == (batch, accumulate)


@pytest.mark.parametrize('brief, tried', [(0, [4, 8]), (600, [4, 8, 16, 32, 64])])
def test_quick_steps_are_timed_with_as_many_images_as_a_run_has(brief, tried, photos, monkeypatch):
    cfg = make_config(PretrainSettings([str(photos)], 'out', arch='pico', size=32, batch_size=4, workers=0))
    counts, whole = [], trial.time_step

    def time_step(cfg, images, dataset):
        counts.append(images)
        return whole(cfg, images, dataset)

    monkeypatch.setattr(trial, 'time_step', time_step)
    monkeypatch.setattr(trial, 'BRIEF', brief)
    found = trial.try_out(cfg)
    assert counts == tried and found.seconds > 0 and found.parameters > 10**6


def test_steps_in_parts_keep_rate_and_length():
    whole, parts = plan(steps=20), plan(4, steps=20, batch_size=16)
    assert parts.optim_wrapper.optimizer.lr == whole.optim_wrapper.optimizer.lr
    assert parts.optim_wrapper.accumulative_counts == 4 and parts.train_cfg.max_iters == 80
    assert [schedule.end for schedule in parts.param_scheduler] == [4 * x.end for x in whole.param_scheduler]


def test_a_budget_has_a_fine_schedule_and_intervals_of_the_plan():
    cfg = plan(4, steps=40, batch_size=16, minutes=5)
    assert cfg.custom_hooks[-1] == dict(type='coma_mm.BudgetHook', minutes=5, planned=160)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 4000 and cfg.default_hooks.checkpoint.interval == 8
    assert all(hook.type != 'coma_mm.BudgetHook' for hook in plan(steps=40).custom_hooks)


@pytest.mark.parametrize(
    'images, passes', [(1, 1592), (150, 585), (1000, 400), (10_000, 252), (50_000, 183), (10**6, 100)]
)
def test_passes_follow_from_the_images(images, passes):
    assert PASSES.over(images) == passes


def test_large_numbers_of_passes_are_written_in_full():
    settings = PretrainSettings(['data'], 'out', steps=9063, batch_size=64)
    assert '9,063 steps of 64 images (1,450 passes)' in describe_end(settings, 400, Trial(1.0, 1e9, 1), 1)


def test_an_end_beyond_this_week_has_its_date():
    assert re.fullmatch(r'\w+day \d\d:\d\d', end_after(60))
    assert re.fullmatch(r'\w+day, \d\d \w+ \d{4}, \d\d:\d\d', end_after(1e7))


def test_a_run_that_is_too_short_says_what_would_do():
    assert advise_length(26_880, 8700, 1500.0).endswith('which take about 30,000: --minutes 25, or --epochs 4.')
    for images in (1, 53, 70, 480, 8700):
        text = advise_length(9, images, 1500.0)
        epochs = int(re.findall(r'--epochs (\d+)', text)[0])
        given = PretrainSettings(['data'], 'out', batch_size=32, epochs=epochs)
        chosen, _ = choose_length(given, images, Trial(1.0, 1e9, 1), 1.0, 100)
        assert 30_000 <= chosen.steps * chosen.batch_size < 30_000 + images + 32


@pytest.mark.parametrize(
    'side, size', [(28, 32), (32, 32), (64, 64), (95, 80), (140, 128), (149, 128), (150, 224), (500, 224), (0, 224)]
)
def test_small_images_are_not_enlarged(side, size):
    assert fit_size(side) == size
    for arch in ('pico', 'vit-tiny'):
        choose_encoder(PretrainSettings(['x'], 'y', arch=arch, size=size))  # refuses sizes that cannot be masked


def test_size_of_images_is_read_of_some(tmp_path):
    paths = [str(tmp_path / f'{number}.png') for number in range(200)]
    for number, path in enumerate(paths):
        Image.new('L', (40, 20 + number % 3)).save(path)
    (tmp_path / '0.png').write_bytes(b'none')
    assert find_short_side(paths) == 21 and find_short_side(paths[:1]) == 0
