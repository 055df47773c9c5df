import pytest
import reference
import torch

from coma_mm.models.mask_units import (
    join_units,
    order_by_blocks,
    sincos_positions,
    split_units,
    tokens_to_map,
    unit_patches,
)


@pytest.mark.parametrize('patch_size', [1, 2, 4])
@pytest.mark.parametrize('grid', [(1, 1), (2, 3), (3, 1)])
def test_patches_are_in_z_order_and_laid_out_like_a_kernel(patch_size, grid):
    s = 8 * patch_size
    image = torch.randn(2, 3, grid[0] * s, grid[1] * s)
    patches = unit_patches(split_units(image, s)).view(2, grid[0] * grid[1], 64, -1)
    for unit in range(grid[0] * grid[1]):
        top, left = unit // grid[1] * s, unit % grid[1] * s
        for token, (y, x) in enumerate(reference.z_order(8)):
            y, x = top + y * patch_size, left + x * patch_size
            expected = image[:, :, y : y + patch_size, x : x + patch_size].flatten(1)
            assert torch.equal(patches[:, unit, token], expected)


def test_split_and_join_are_inverse():
    image = torch.randn(2, 3, 64, 96)
    assert torch.equal(join_units(split_units(image, 32), (2, 3)), image)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_split_picks_units(layout):
    image = torch.randn(2, 3, 64, 96).to(memory_format=layout)
    units = split_units(image, 32)
    shared, own = torch.tensor([5, 0, 3]), torch.tensor([[5, 0], [1, 2]])
    assert torch.equal(split_units(image, 32, shared), units[:, shared])
    assert torch.equal(split_units(image, 32, own), torch.stack([units[0, own[0]], units[1, own[1]]]))


@pytest.mark.parametrize('side', [1, 2, 4, 8])
def test_map_restores_raster_order(side):
    grid = (2, 3)
    raster = torch.arange(grid[0] * grid[1] * side**2).view(1, grid[0] * side, grid[1] * side, 1)
    tokens = reference.units_of(raster, grid).flatten(1, 2)
    whole = raster.permute(0, 3, 1, 2)
    for size in (grid[0] * side, grid[1] * side), (grid[0] * side - side // 2, grid[1] * side - side // 2):
        result = tokens_to_map(tokens, grid, size)
        assert torch.equal(result, whole[..., : size[0], : size[1]]) and result.is_contiguous()


@pytest.mark.parametrize('grid, base', [((2, 3), None), ((2, 3), (7, 7)), ((5, 1), (3.5, 2))])
@pytest.mark.parametrize('side', [1, 8])
def test_positions_follow_the_formula(grid, base, side):
    base = base or grid
    scale = base[0] / grid[0], base[1] / grid[1]
    table = sincos_positions(grid, side, 16, scale, dtype=torch.float64)
    raster = reference.sincos(grid[0] * side, grid[1] * side, 16, base[0] * side, base[1] * side)
    torch.testing.assert_close(table, reference.units_of(raster[None], grid)[0], rtol=0, atol=1e-12)


def test_tiled_positions_start_anew():
    table = sincos_positions((3, 5), 8, 16, (0.5, 2.0), 2, dtype=torch.float64).view(3, 5, 64, 16)
    tile = sincos_positions((2, 2), 8, 16, (0.5, 2.0), dtype=torch.float64).view(2, 2, 64, 16)
    assert torch.equal(table[:2, 2:4], tile) and torch.equal(table[2:, 4:], tile[:1, :1])


def test_positions_of_some_units_are_those_of_the_whole():
    idx = torch.tensor([[5, 0], [1, 2]])
    assert torch.equal(sincos_positions((2, 3), 4, 8, idx=idx), sincos_positions((2, 3), 4, 8)[idx])


def test_tables_do_not_follow_the_default_device():
    with torch.device('meta'):
        positions = sincos_positions((1, 3), 8, 20)
        order, inverse, _ = order_by_blocks((3, 11), 2)
    assert {table.device.type for table in (positions, order, inverse)} == {'cpu'}


def test_positions_reject_odd_channels():
    with pytest.raises(ValueError, match='multiples of 4, got 6'):
        sincos_positions((1, 1), 1, 6)


@pytest.mark.parametrize('grid', [(4, 4), (5, 7), (2, 9), (1, 1)])
def test_order_by_blocks_cover_each_unit_once(grid):
    window = 3
    order, inverse, kinds = order_by_blocks(grid, window)
    assert torch.equal(order[inverse], torch.arange(grid[0] * grid[1]))
    assert sum(count * size for count, size in kinds) == len(order)
    start = 0
    for count, size in kinds:
        for block in order[start : start + count * size].view(count, size):
            corners = {(int(unit) // grid[1] // window, int(unit) % grid[1] // window) for unit in block}
            assert len(corners) == 1
        start += count * size
