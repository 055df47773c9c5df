"""Arithmetic of mask units that data transforms and models share. Pure Python: imports nothing."""


def num_hidden(num_units: int, ratio: float) -> int:
    """Return how many of an image's units are hidden from the adaptive branch: ``round(ratio * num_units)``.

    Python rounds halves to the even neighbour: 0.5 of 49 units is 24, 0.5 of 51 is 26. A ratio that is not inside
    (0, 1), or leaves one of the two branches without a unit, is refused.
    """
    hidden = round(ratio * num_units) if 0 < ratio < 1 else 0
    if not 0 < hidden < num_units:
        raise ValueError(
            f'a mask ratio of {ratio} over {num_units} units leaves a branch without units: '
            'choose a ratio between 0 and 1 that hides at least one unit and shows at least one'
        )
    return hidden


def unit_grid(size: tuple[int, int], unit_size: int) -> tuple[int, int]:
    """Return the rows and columns of units in an image; refuse sides that are no positive multiples of the unit's."""
    height, width = size
    if any(side < unit_size or side % unit_size for side in size):
        below = tuple(max(side // unit_size, 1) * unit_size for side in size)
        above = tuple(-(-side // unit_size) * unit_size for side in size)
        nearest = f'{below}' if below == above else f'{below} or {above}'
        raise ValueError(
            f'an image of (height, width) = {tuple(size)} is no whole number of {unit_size} px units: use {nearest}'
        )
    return height // unit_size, width // unit_size
