import pytest
import torch

from coma_mm.models import ConvNeXtDecoder, ViTDecoder

GRID = (3, 4)


@pytest.mark.parametrize('kind', [ViTDecoder, ConvNeXtDecoder])
def test_every_unit_lands_in_its_place(kind):
    """A sentinel for the mask token: places prove themselves, not just shapes."""
    decoder = kind(16, 48, dim=32, depth=1)
    decoder.mask_token.data.fill_(1e4)
    idx = torch.tensor([[7, 0, 3], [11, 2, 5]])
    tokens = torch.randn(2, 3, 16)
    filled = decoder.append_mask_tokens([tokens], idx, 12)
    for b in range(2):
        for unit in range(12):
            if unit in idx[b]:
                expected = decoder.embeddings[0](tokens[b, idx[b].tolist().index(unit)])
                torch.testing.assert_close(filled[b, unit], expected)
            else:
                assert torch.all(filled[b, unit] == 1e4)
    assert decoder(filled, GRID).shape == (2, 12, 48)


@pytest.mark.parametrize('kind', [ViTDecoder, ConvNeXtDecoder])
def test_units_that_nobody_asks_for_are_still_looked_at(kind):
    decoder = kind(16, 48, dim=32, depth=2).double().eval()
    x = torch.randn(4, 12, 32, dtype=torch.float64)
    idx = torch.tensor([[7, 0, 3]] * 4)[..., None]

    def keep(tokens):
        return tokens.gather(1, idx.expand(-1, -1, tokens.shape[-1]))

    torch.testing.assert_close(decoder(x, GRID, keep), keep(decoder(x, GRID)), rtol=0, atol=1e-12)


def test_stages_are_summed_after_one_convolution_each():
    decoder = ViTDecoder((4 * 8, 16), 48, dim=32, depth=1, num_heads=4)
    fine, coarse = torch.randn(2, 3 * 4, 8), torch.randn(2, 3, 16)
    filled = decoder.append_mask_tokens([fine, coarse], torch.tensor([[0, 1, 2]] * 2), 3)
    kernel = decoder.embeddings[0].weight.view(32, 4, 8)
    by_hand = torch.einsum('buti,oti->buo', fine.view(2, 3, 4, 8), kernel) + decoder.embeddings[0].bias
    torch.testing.assert_close(filled, by_hand + decoder.embeddings[1](coarse))


def test_convolution_sees_the_grid():
    """A change in one corner reaches its 3 x 3 neighbourhood through one block with a 3 x 3 kernel, and no further."""
    decoder = ConvNeXtDecoder(16, 48, dim=8, depth=1, kernel_size=3).eval()
    x = torch.randn(1, 12, 8)
    other = x.clone()
    other[0, 0] += 1
    changed = (decoder(x, GRID) - decoder(other, GRID)).abs().amax(-1).view(GRID) > 1e-6
    expected = torch.zeros(GRID, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(changed, expected)


def test_a_token_of_no_unit_is_looked_at_and_not_predicted():
    decoder = ViTDecoder(16, 48, dim=32, depth=2, num_heads=4, extra_tokens=1).double().eval()
    tokens, idx = torch.randn(2, 1 + 3, 16, dtype=torch.float64), torch.tensor([[7, 0, 3], [11, 2, 5]])
    filled = decoder.append_mask_tokens([tokens], idx, 12)
    assert filled.shape == (2, 13, 32)
    torch.testing.assert_close(filled[:, 0], decoder.embeddings[0](tokens[:, 0]))
    prediction = decoder(filled, GRID)
    assert prediction.shape == (2, 12, 48)
    filled[:, 0] += 1
    assert (decoder(filled, GRID) != prediction).any(-1).all()
    with pytest.raises(ValueError, match='a class token has none; use ViTDecoder'):
        ConvNeXtDecoder(16, 48, extra_tokens=1)
