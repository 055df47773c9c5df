"""Patterns of paths that leave images out of a folder; patterns that match masks beside photos."""

import fnmatch
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..utils.text import counted

# Names that masks and other annotations have in folders of photos.
OF_FILES = re.compile(r'(.+?)([-_.](?:masks?|seg|segmentation|gt|labels?|annotations?))$', re.I)
OF_FOLDERS = 'masks', 'annotations', 'labels', 'segmentations'


class Exclusion:
    """Patterns of paths below a folder, as shells write them.

    A pattern matches a path, any end of one, and all that is in a folder that it matches: ``masks`` and ``masks/*`` are
    the same, at any depth. ``*`` stands for folders, too. Upper and lower case are the same, as in endings.

    Args:
        patterns: A list of such as ``'*_mask.png'``; ``None`` is an empty one.

    Raises:
        ValueError: If it is no list of patterns.
    """

    def __init__(self, patterns: Any):
        patterns = [] if patterns is None else patterns
        is_list = isinstance(patterns, (list, tuple))
        if not is_list or not all(isinstance(one, str) and _simplify(one) for one in patterns):
            raise ValueError(f"exclude must be a list of patterns such as ['*_mask.png', 'masks/*'], got {patterns!r}")
        self.tests = {
            pattern: re.compile(rf'(?s:(?:.*/)?)(?:{fnmatch.translate(_simplify(pattern))[:-2]})(?s:(?:/.*)?)\Z', re.I)
            for pattern in patterns
        }
        self.counts: Counter[str] = Counter()  # images that each pattern matches
        self.total = 0

    def keep(self, names: Sequence[str]) -> list[bool]:
        """Say of each path, with ``/`` between folders, whether it stays; count the others; refuse if none does."""
        self.counts, self.total, kept = Counter(dict.fromkeys(self.tests, 0)), 0, []
        for name in names:
            matching = [pattern for pattern, test in self.tests.items() if test.match(name)]
            self.counts.update(matching)
            kept.append(not matching)
        self.total = kept.count(False)
        if names and self.total == len(names):
            raise FileNotFoundError(
                f'no image is left: {self.describe()} of {len(names)}, for example {names[0]!r}; give narrower '
                'patterns to --exclude (exclude of the data set)'
            )
        return kept

    @property
    def idle(self) -> list[str]:
        """The patterns that match nothing."""
        return [pattern for pattern, count in self.counts.items() if not count]

    def describe(self) -> str:
        """Return such as ``2 images left out by exclude (2 by '*_mask.png')``; nothing if there are no patterns."""
        by = ', '.join(f'{count} by {pattern!r}' for pattern, count in self.counts.items())
        return f'{counted(self.total, "image")} left out by exclude ({by})' if self.tests else ''

    def advise(self, names: Sequence[str]) -> str | None:
        """Return what to type where some of the names that stay look like those of masks; ``None`` elsewhere."""
        count, patterns = find_masks(names)
        options = ' '.join(map(shlex.quote, [*self.tests, *patterns]))
        masks = f'images with names as masks of others have: {count}; to leave them out: --exclude {options}'
        return masks if patterns else None


def _simplify(pattern: str) -> str:
    pattern = pattern.strip()
    while pattern.startswith(('./', '**/', '/')):
        pattern = pattern.partition('/')[2]
    return pattern.rstrip('/')


def find_masks(names: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many of some paths, with ``/`` between folders, look like masks of others, and patterns of these."""
    stems, marked = set(), []
    for name in names:
        *folders, file = name.split('/')
        stem = file.rpartition('.')[0].lower()
        mark = OF_FILES.fullmatch(stem)
        folder = next((folder for folder in folders if folder.lower() in OF_FOLDERS), None)
        if mark:
            marked.append((mark[1], f'*{mark[2]}.*'))
        if folder:
            marked.append((mark[1] if mark else stem, f'{folder}/*'))
        if not mark and not folder:
            stems.add(stem)
    pairs, alone = Counter(), Counter()  # type: Counter[str], Counter[str]
    for stem, pattern in marked:
        (pairs if stem in stems else alone)[pattern] += 1
    patterns = [pattern for pattern, count in pairs.items() if count > 1 and 3 * count >= alone[pattern]]
    return sum(pairs[pattern] for pattern in patterns), patterns
