"""Names of weights that older versions of DyViT had: files that have them load as before."""

from typing import Any

from torch import Tensor

RENAMED = {'stem': 'patch_embed', 'scale1': 'ls1', 'scale2': 'ls2'}  # parts of names, below a DyViT


def rename_older(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by today's names, for each DyViT among them, whatever stands before its names."""
    return _rename(weights, RENAMED)


def rename_loaded(state_dict: dict[str, Any], *_: Any) -> None:
    """Rename weights that are about to be loaded, in place: a hook of modules before ``load_state_dict``."""
    renamed = rename_older(state_dict)
    if renamed is not state_dict:
        state_dict.clear()
        state_dict.update(renamed)


def restore_older(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the older names, for what was computed of names and must stay."""
    return _rename(weights, {name: older for older, name in RENAMED.items()})


def _rename(weights: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    first = f'{next(iter(table))}.weight'
    places = {name.removesuffix(first) for name in weights if name.endswith(first)}
    places = {place for place in places if f'{place}stages.0.blocks.0.norm1.weight' in weights}
    if not places:
        return weights

    def rename(name: str) -> str:
        place = max((place for place in places if name.startswith(place)), key=len, default=None)
        if place is None:
            return name
        return place + '.'.join(table.get(part, part) for part in name.removeprefix(place).split('.'))

    return {rename(name): value for name, value in weights.items()}
