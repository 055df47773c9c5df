"""Short fine-tuning: the same few schedules for all weights that are compared.

Shapes: N images to learn from, Q images to classify, C features of each, K classes.
"""

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.labelled import HELD_OUT
from ..models import FeatureExtractor
from ..utils.environment import fast_dtype, has_fast_bf16
from ..utils.progress import show_progress
from ..utils.text import printable
from .features import ImageFiles, extract_features, preprocess, read_batches

LRS = 1e-3, 3e-4, 1e-4  # peaks of the backbone's learning rate, of which one is chosen for each row
HEAD = 10  # rate of the new head over the backbone's; better than 1 on held-out images of two folders, 200 steps
BATCH = 32  # images of a step
DRAWS = 3  # runs at the chosen rate, of other seeds
WARM_UP = 0.1  # of the steps
SHIFT = 8  # images are shifted by up to this part of a side
MOST_HELD_OUT = 1000  # images, for the choice of a rate
CACHE = 10**9  # bytes of images in memory
SAMPLE = 256  # images by which features are standardised
PIXELS = BATCH * 128**2  # computed at once


@dataclass
class ShortFineTuning:
    """Fine-tunes networks with a linear head for some steps, and says which images they then classify correctly.

    A fifth of the images to learn from is held out, to choose the best of three learning rates for each row. Three runs
    of other seeds then learn from all images. Images lie in memory: 1 GB at most, a random part of them where there are
    more.
    """

    files: ImageFiles  # first those to learn from, then those to classify
    labels: Tensor  # (N,), int64, of those to learn from
    truth: Tensor  # (Q,), int64, of the others
    steps: int  # of a run, of 32 images each
    batch_size: int  # images to classify at once
    workers: int  # processes that read images

    def measure(self, name: str, networks: Sequence[FeatureExtractor]) -> Tensor:
        """Fine-tune copies of networks on their device, and return which images (3, Q), by run, are then right.

        Runs are shared out among the networks.
        """
        images, labels = self._load()
        held = draw_held_out(labels)
        every, others = torch.arange(len(labels)), held.nonzero().flatten()
        found: dict[float, tuple[float, float]] = {}
        for lr in LRS if len(others) else ():
            began = time.monotonic()
            tuned = self._train(networks[0], images, labels, every[~held], lr, 0)
            if tuned is not None:
                found[lr] = tuned.score(images, labels, others)
                self._say(name, f'at a rate of {lr:g}: {100 * found[lr][0]:.1f} % of {len(others):,} others', began)
        if len(others) and not found:
            raise ValueError(f'{name}: fine-tuning ends in NaN or infinite values at each rate')
        lr = max(found, key=found.__getitem__, default=LRS[1])  # the middle one without images to choose by
        hits = []
        for seed in range(DRAWS):
            began, number = time.monotonic(), seed % len(networks)
            tuned = self._train(networks[number], images, labels, every, lr, seed)
            if tuned is None:
                raise ValueError(f'{name}: fine-tuning ends in NaN or infinite values at a rate of {lr:g}')
            hits.append(self._classify(tuned) == self.truth)
            accuracy = 100 * hits[-1].double().mean().item()
            self._say(name, f'at a rate of {lr:g}, run {seed + 1} of {DRAWS}: {accuracy:.1f} %', began)
        return torch.stack(hits)

    def _load(self) -> tuple[Tensor, Tensor]:
        """Return images to learn from, uint8, in random order, and their labels."""
        channels, (height, width) = self.files.settings['channels'], self.files.size
        most = max(BATCH, CACHE // (height * width * channels))
        chosen = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))[:most]
        images = torch.empty(len(chosen), channels, height, width, dtype=torch.uint8)
        for numbers, batch in read_batches(self.files.take(chosen.tolist()), self.batch_size, self.workers, 'images'):
            images[numbers] = batch
        return images, self.labels[chosen]

    def _train(
        self, network: FeatureExtractor, images: Tensor, labels: Tensor, numbers: Tensor, lr: float, seed: int
    ) -> '_Classifier | None':
        """Return a classifier that has learnt from the images of some numbers; ``None`` if its loss is not finite."""
        model = _Classifier(deepcopy(network), images[:SAMPLE], int(self.labels.max()) + 1)
        optimizer = torch.optim.AdamW(model.group_parameters(), lr, weight_decay=0.05)
        warm_up = max(1, round(WARM_UP * self.steps))
        generator = torch.Generator().manual_seed(seed)
        passes = math.ceil(self.steps * BATCH / len(numbers))
        order = torch.cat([numbers[torch.randperm(len(numbers), generator=generator)] for _ in range(passes)])
        model.train()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            steps = order[: self.steps * BATCH].split(BATCH)
            for step, chosen in enumerate(show_progress(steps, 'fine-tuning')):
                fraction = max(0, step - warm_up) / max(1, self.steps - warm_up)
                now = lr * min((step + 1) / warm_up, (1 + math.cos(math.pi * fraction)) / 2)
                for group in optimizer.param_groups:
                    group['lr'] = now * group['times']
                loss = model.learn(shift(images[chosen], generator), labels[chosen])
                if not math.isfinite(loss):
                    return None
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return model.eval()

    def _classify(self, model: '_Classifier') -> Tensor:
        """Return the classes (Q,) of the images to classify."""
        numbers = range(len(self.labels), len(self.files))
        (features,), _ = extract_features([model.network], self.files.take(numbers), self.batch_size, self.workers)
        with torch.no_grad():
            return torch.cat([model.classify(part.to(model.mean)).argmax(1).cpu() for part in features.split(4096)])

    def _say(self, name: str, what: str, began: float) -> None:
        seconds = time.monotonic() - began
        print(printable(f'{name}, fine-tuned for {self.steps} steps {what} ({seconds:.0f} s)'), flush=True)


class _Classifier(nn.Module):
    """A linear layer on standardised features. It begins with zeros; some images give mean and deviation."""

    def __init__(self, network: FeatureExtractor, images: Tensor, classes: int):
        super().__init__()
        if hasattr(network.backbone, 'frozen_stages'):
            network.backbone.frozen_stages = -1
        network.pool = 'mean'  # as the heads of classifiers have it
        self.network = network.requires_grad_(True)
        self.device = next(network.parameters()).device
        is_gpu = self.device.type == 'cuda'
        capability = torch.cuda.get_device_capability(self.device) if is_gpu else None
        self.is_fast = fast_dtype(capability, self.device.type == 'cpu' and has_fast_bf16()) == 'bfloat16'
        self.at_once = max(1, PIXELS // images[0, 0].numel())
        with torch.no_grad():
            features = torch.cat([self.extract(part) for part in images.split(self.at_once)])
        self.deviation, self.mean = torch.std_mean(features, 0, unbiased=False)
        self.deviation.clamp_(min=max(0.1 * self.deviation.mean().item(), 1e-6))  # of what hardly varies
        self.fc = nn.Linear(len(self.mean), classes, device=self.mean.device)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def classify(self, features: Tensor) -> Tensor:
        """Return scores (B, K) of features (B, C)."""
        return self.fc((features - self.mean) / self.deviation)

    def extract(self, images: Tensor) -> Tensor:
        """Return features (B, C) of images, float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_fast):
            return self.network(preprocess(self.network, images)).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.extract(images))

    def learn(self, images: Tensor, labels: Tensor) -> float:
        """Add the gradient of the mean loss; return that."""
        loss = 0.0
        for part, truth in zip(images.split(self.at_once), labels.split(self.at_once)):
            value = self._loss(self(part), truth) / len(images)
            value.backward()
            loss += value.item()
        return loss

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor, numbers: Tensor) -> tuple[float, float]:
        """Return the fraction of some images that are classified correctly, and how likely their labels are."""
        right = likely = 0.0
        for part in numbers.split(self.at_once):
            scores = self(images[part])
            right += (scores.argmax(1).cpu() == labels[part]).double().sum().item()
            likely -= self._loss(scores, labels[part]).item()
        return right / len(numbers), likely

    def group_parameters(self) -> list[dict]:
        """Return the parameters in groups: norms, biases and scales do not decay, and the head learns faster."""
        own = list(self.network.parameters())
        return [
            dict(params=[parameter for parameter in own if parameter.ndim > 1], times=1),
            dict(params=[parameter for parameter in own if parameter.ndim < 2], times=1, weight_decay=0.0),
            dict(params=list(self.fc.parameters()), times=HEAD),
        ]

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels.to(scores.device), reduction='sum')


def draw_held_out(labels: Tensor) -> Tensor:
    """Return (N,), bool: a fifth of each class, one if it has two, and 1,000 of all at most."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    chosen = []
    for label in labels.unique():
        own = order[labels[order] == label]
        chosen.append(own[: max(int(HELD_OUT * len(own)), int(len(own) > 1))])
    held = torch.cat(chosen)
    held = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(2))[:MOST_HELD_OUT]]
    return torch.zeros(len(labels), dtype=torch.bool).index_fill_(0, held, True)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its sides; the pixels at its edge are repeated."""
    height, width = images.shape[2:]
    down, right = height // SHIFT, width // SHIFT
    y = torch.randint(-down, down + 1, (len(images), 1), generator=generator) + torch.arange(height)
    x = torch.randint(-right, right + 1, (len(images), 1), generator=generator) + torch.arange(width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    each = torch.arange(len(images))[:, None, None]
    return images[each, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2).contiguous()
