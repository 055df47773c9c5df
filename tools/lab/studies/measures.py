"""Measurements of a cell. Each function takes the cell and options, and returns named numbers.

It may also return ``curve``, a list of points, and ``rows``, the numbers of several models by name.
"""

import json
import multiprocessing
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from benchmarks.timing import run_interleaved
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor, nn

from coma_mm.datasets import ComplementaryMask
from coma_mm.datasets.seeding import fixed_seed
from coma_mm.engine.runner.build import build_runner
from coma_mm.evaluation import (
    LinearProbe,
    NearestNeighbours,
    Validator,
    draw_labelled,
    load_images,
    mean_colour_baseline,
)
from coma_mm.evaluation import rankme as effective_rank
from coma_mm.evaluation.features import preprocess
from coma_mm.evaluation.flops import count_flops
from coma_mm.evaluation.validator import BATCH
from coma_mm.models.coma import eval_mode
from coma_mm.trial import forget_peak, make_step, peak_so_far
from coma_mm.visualization import draw_reconstructions

from .grid import Cell, make_cells, read_study, studies_folder
from .training import find_latest, load_trained, read_config, train_beside

POSITIONS = 4  # rows and columns of a map that a probe of positions sees, at most
BANDS = 16

# ---- the quality of a checkpoint ----


def reconstruction(cell: Cell, images: int = 2000) -> dict:
    """Loss and PSNR on held-out images, with the same masks for all cells."""
    cfg, model = load_trained(cell)
    return Validator(cfg.held_out.to_dict(), images).measure(model)


def extract(model: nn.Module, images: Tensor) -> Tensor:
    """Return the last map of each image, ``(N, C, h, w)`` with at most 4 x 4 positions, on the CPU."""
    maps = []
    with torch.no_grad():
        for batch in images.split(BATCH):
            last = model.extract_feat(preprocess(model, batch))[-1]
            size = tuple(min(side, POSITIONS) for side in last.shape[2:])
            maps.append(F.adaptive_avg_pool2d(last, size).float().cpu())
    return torch.cat(maps)


def features(cell: Cell, labels: int | None = None, queries: int | None = None) -> dict:
    """kNN, linear probes and rank of frozen features: the average of the last map, for a probe also its positions.

    ``labels`` and ``queries`` are numbers of images; all by default.
    """
    cfg, model = load_trained(cell)
    images, classes = load_images(cfg.labelled.to_dict(), labels)
    held_out, truth = load_images(cfg.held_out.to_dict(), queries)
    bank, maps = extract(model, images), extract(model, held_out)
    average_bank, average = bank.mean((2, 3)), maps.mean((2, 3))

    def accuracy(predicted: Tensor) -> float:
        return round(100 * (predicted == truth).double().mean().item(), 3)

    return dict(
        knn=accuracy(NearestNeighbours(average_bank, classes).predict(average, [20])[:, 0]),
        probe=accuracy(LinearProbe(average_bank, classes).predict(average)),
        probe_positions=accuracy(LinearProbe(bank.flatten(1), classes).predict(maps.flatten(1))),
        rankme=round(effective_rank(average), 2),
    )


def few(
    cell: Cell, per_class: int = 15, labels: int = 2400, queries: int = 2000, draws: int = 3, pixels: int = 0
) -> dict:
    """Probe of the last map's average with few labels of each class, the mean of several draws; its rank.

    With ``pixels`` also a probe of images of so many pixels a side, which features have to beat. Labels are drawn from
    ``labels`` of the images, and tried on ``queries`` others.
    """
    cfg, model = load_trained(cell)
    (images, classes), (others, truth) = (
        load_images(dataset.to_dict(), count) for dataset, count in ((cfg.labelled, labels), (cfg.held_out, queries))
    )

    assert classes is not None and truth is not None

    def probe(bank: Tensor, tried: Tensor) -> tuple[float, float]:
        right = []
        for seed in range(draws):
            chosen = draw_labelled(classes, per_class, seed)
            right.append((LinearProbe(bank[chosen], classes[chosen]).predict(tried) == truth).double().mean())
        deviation, mean = torch.std_mean(100 * torch.stack(right), correction=min(1, draws - 1))
        return mean.item(), deviation.item()

    features = [extract(model, part).mean((2, 3)) for part in (images, others)]
    accuracy, deviation = probe(*features)
    found = dict(few=accuracy, few_deviation=deviation, rankme=effective_rank(features[1]))
    if pixels:
        found['few_pixels'], _ = probe(
            *(F.adaptive_avg_pool2d(part.float(), pixels).flatten(1) for part in (images, others))
        )
    return {name: round(value, 3) for name, value in found.items()}


def finetune(cell: Cell, config: str, percent: float, epochs: int, options: dict | None = None) -> dict:
    """Accuracy after fine-tuning with some of the labels, the same for all cells of a seed."""
    cfg, model = load_trained(cell)
    image = load_images(cfg.held_out.to_dict(), 1)[0]
    classes = len(DATASETS.build(cfg.labelled).metainfo['classes'])
    weights = dict(type='coma_mm.Pretrained', checkpoint=find_latest(cell.work_dir / 'train'), prefix='backbone.')
    metrics = train_beside(
        cell,
        f'finetune_{percent:g}',
        str((studies_folder() / config).resolve()),
        {
            'model.backbone': {'_delete_': True, **cfg.model.backbone.to_dict(), 'init_cfg': weights},
            'model.head.in_channels': extract(model, image).shape[1],
            'model.head.num_classes': classes,
            'model.data_preprocessor.num_classes': classes,
            'train_dataloader.dataset.fraction': percent / 100,
            'train_dataloader.dataset.seed': cell.seed,
            **(options or {}),
        },
        epochs,
    )
    return {f'finetune_{percent:g}': round(metrics['accuracy/top1'], 3)}


def validation(cell: Cell) -> dict:
    """Metrics of a config's own validation: what a detector or a segmentor has learnt."""
    cfg = Config.fromfile(next((cell.work_dir / 'train').glob('*.py')))
    cfg.resume, cfg.load_from = False, find_latest(cell.work_dir / 'train')
    cfg.experiment_name = f'{cell.title}-{time.time_ns()}'
    return {key.split('/')[-1]: round(float(value), 3) for key, value in build_runner(cfg).val().items()}


def bands(cell: Cell, images: int = 200) -> dict:
    """Error of the assembled reconstruction by radial frequency, as a share of the image's power in the same band.

    Beside it that of filling units with the mean colour of their visible neighbours. And a picture, of photos that
    anyone may publish.
    """
    cfg, model = load_trained(cell)
    result = Validator(cfg.held_out.to_dict(), images).reconstruct(model)
    guess = mean_colour_baseline(result.originals, result.mask, result.unit_size)
    frequency, power = radial_power(result.originals)
    fractions = {
        name: radial_power(other - result.originals)[1] / power
        for name, other in (('error', result.assembled), ('baseline', guess))
    }
    shown = Validator(cfg.pictured.to_dict(), 4)
    draw_reconstructions(shown.reconstruct(model), cell.work_dir / 'picture.jpg')
    points = zip(frequency.tolist(), fractions['error'].tolist(), fractions['baseline'].tolist())
    names = ('frequency', 'error', 'error_baseline')
    low, high = frequency < 1 / 16, frequency > 1 / 4
    return dict(
        psnr_assembled=round(result.psnr.mean().item(), 3),
        psnr_baseline=round(result.baseline.mean().item(), 3),
        error_low=round(fractions['error'][low].mean().item(), 4),
        error_high=round(fractions['error'][high].mean().item(), 4),
        curve=[dict(zip(names, (round(x, 5) for x in point))) for point in points],
    )


def radial_power(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middles of bands of spatial frequency, in cycles per pixel up to 0.5, and the power in each.

    Args:
        images: ``(N, C, H, W)``.

    Returns:
        Both ``(BANDS,)``. What lies at higher frequencies, in the corners of the spectrum, is left out.
    """
    spectrum = torch.fft.fft2(images.double()).abs().square().sum((0, 1))
    y, x = (torch.fft.fftfreq(side, dtype=torch.float64) for side in images.shape[2:])
    band = ((y[:, None].square() + x.square()).sqrt() * 2 * BANDS).long()
    inside = band < BANDS
    power = torch.zeros(BANDS, dtype=torch.float64).index_add_(0, band[inside], spectrum[inside])
    return (torch.arange(BANDS) + 0.5) / (2 * BANDS), power


# ---- coverage ----


def coverage(
    cell: Cell, ratio: float, complementary: bool, images: int = 500, epochs: int = 200, size: int = 224
) -> dict:
    """Count how often units have been seen and predicted after some epochs: counted on drawn masks, and in closed form.

    A unit is *encoded* if a branch sees it, and *learnt from* if that branch has a gradient. It is *predicted* if its
    pixels are a target of the loss. ``never_*`` is the share of units to which that has not happened once. ``spread_*``
    is the deviation of the count over its mean.
    """
    draw = ComplementaryMask(size, 32, ratio)
    with fixed_seed(cell.seed):
        hidden = torch.stack(
            [torch.stack([torch.from_numpy(draw({})['mask']) for _ in range(images)]) for _ in range(epochs)]
        ).flatten(1)
    fraction = draw.num_hidden / draw.num_units
    happened = dict(
        encoded=(~hidden | complementary, 1.0 if complementary else 1 - fraction),
        learnt_from=(~hidden, 1 - fraction),
        predicted=(hidden | complementary, 1.0 if complementary else fraction),
    )
    points: list[dict[str, float]] = [
        dict(epochs=k) for k in sorted({round(1.3**i) for i in range(60)} | {10, epochs}) if k <= epochs
    ]
    for name, (events, chance) in happened.items():
        counts = events.cumsum(0)
        for point in points:
            k = int(point['epochs'])
            count = counts[k - 1].double()
            point[f'never_{name}'] = (count == 0).double().mean().item()
            point[f'never_{name}_expected'] = (1 - chance) ** k
            point[f'spread_{name}'] = (count.std(correction=0) / count.mean()).item()
            point[f'spread_{name}_expected'] = ((1 - chance) / (chance * k)) ** 0.5
    points = [{key: x if key == 'epochs' else float(f'{x:.4g}') for key, x in point.items()} for point in points]
    numbers = {
        f'{key} after {point["epochs"]}': point[key]
        for point in points
        for key in ('never_encoded', 'never_learnt_from', 'never_predicted', 'spread_encoded', 'spread_predicted')
        if point['epochs'] in (10, epochs)
    }
    return dict(**numbers, curve=points)


# ---- cost ----


def speed(cell: Cell, batch: int = 64, rounds: int = 11) -> dict:
    """Parameters, operations and times of all other cells of the study, whose models take turns."""
    calls: dict[tuple[str, str], Callable] = {}
    rows: dict[str, dict[str, float]] = {}
    for other in make_cells(read_study(cell.study), cell.size):
        if other.config and other.epochs != 0 and other.seed == cell.seed:
            cfg = read_config(other.config, other.options, cell.work_dir / 'unused', cell.seed)
            model, step = make_step(cfg, batch)
            images = torch.zeros(batch, 3, *load_images(cfg.held_out.to_dict(), 1)[0].shape[2:])
            images = images.to(next(model.parameters()).device)
            rows[other.name] = dict(
                parameters_m=round(sum(p.numel() for p in model.backbone.parameters()) / 1e6, 3),
                gmacs=round(count_flops(_forward(model, images[:1])) / 2e9, 4),
            )
            calls[other.name, 'ms_forward'] = _forward(model, images)
            calls[other.name, 'ms_step'] = step
    args = Namespace(device='cuda' if torch.cuda.is_available() else 'cpu', rounds=rounds)
    for (name, key), times in run_interleaved(calls, args, 1e3 / batch).items():
        rows[name] |= {key: round(median(times), 4), f'{key}_fastest': round(min(times), 4)}
    return dict(rows=rows)


def _forward(model: nn.Module, images: Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad(), eval_mode(model):
            model.backbone(images)

    return forward


def memory(cell: Cell, batch: int = 256) -> dict:
    """Peak memory of two steps of training, with the optimiser, in a process that gives back what it frees."""
    if cell.config is None:
        raise ValueError(f'the cell {cell.title} trains no config, whose memory could be measured')
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        peak = pool.apply(peak_bytes, (cell, cell.config, batch))
    return dict(peak_mib=round(peak / 2**20, 1))


def peak_bytes(cell: Cell, config: str, batch: int) -> int:
    """Return what weights, optimiser and two steps of a cell add to the memory of this process, at most."""
    cfg = read_config(config, cell.options, cell.work_dir / 'unused', cell.seed)
    init_default_scope(cfg.default_scope)
    on_gpu = torch.cuda.is_available()
    before = forget_peak(on_gpu)
    _, step = make_step(cfg, batch)
    step()
    step()
    return peak_so_far(on_gpu) - before


def benchmark(cell: Cell, suite: str, arguments: list[str], models: dict | None = None) -> dict:
    """Run a suite of benchmark.py; count parameters and operations of ``models``, configs by the row's name."""
    out = (cell.work_dir / 'benchmark.json').resolve()
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / 'benchmark.py'),
        suite,
        *map(str, arguments),
        '--json',
        str(out),
    ]
    subprocess.run(command, check=True, stdout=sys.stdout)
    results = json.loads(out.read_text())
    init_default_scope('mmpretrain')
    rows, models = {}, models or {}
    for table in results['tables'].values():
        unit = table['unit'].replace(' ', '_')
        for name, values in table['rows'].items():
            rows[name] = {unit: round(median(values), 3), f'{unit}_fastest': round(min(values), 3)}
            if name in models:
                model = MODELS.build(models[name])
                model.eval()  # on a line of its own: mmpretrain's backbones return nothing
                rows[name] |= dict(
                    parameters_m=round(sum(p.numel() for p in model.parameters()) / 1e6, 2),
                    gmacs=round(count_flops(model, torch.zeros(1, 3, 224, 224)) / 2e9, 3),
                )
    return dict(rows=rows)


# By the name that studies use, or its part before the first underscore.
MEASURES = {
    function.__name__: function
    for function in (reconstruction, features, few, finetune, validation, bands, coverage, speed, memory, benchmark)
}
