"""Weights to start from fit, or the config says which of them need not."""

import pytest
import torch
from tiny_run import read_log, start


def build(folder, **options):
    return start(folder, {'custom_hooks': [], 'train_cfg.max_epochs': 1} | options)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Weights of the tiny model, its prediction of other classes, so to speak, and a block that it has not."""
    folder = tmp_path_factory.mktemp('start')
    weights = build(folder, **{'model.decoder.depth': 2}).model.state_dict()
    weights['decoder.prediction.weight'] = torch.zeros(7, 64)
    weights['backbone.patch_embed.weight'].fill_(0.5)
    del weights['decoder.mask_token']
    torch.save(dict(state_dict=weights, meta={}), folder / 'start.pth')
    return str(folder / 'start.pth')


def test_weights_that_do_not_fit_are_an_error_with_the_remedy(tmp_path, checkpoint):
    runner = build(tmp_path, load_from=checkpoint)
    with pytest.raises(ValueError) as error:
        runner.train()
    assert '1 of other shapes: decoder.prediction.weight (7, 64) instead of (768, 64)' in str(error.value)
    for remedy in ('as with a detector of other classes, set load_partial=True', 'coma_mm.Pretrained'):
        assert remedy in str(error.value)


@pytest.mark.parametrize('partial', [True, ['decoder.'], 'decoder.'])
def test_load_partial(tmp_path, checkpoint, partial):
    runner = build(tmp_path, load_from=checkpoint, load_partial=partial)
    runner.load_or_resume()
    weights = runner.model.state_dict()
    assert torch.all(weights['backbone.patch_embed.weight'] == 0.5)
    assert weights['decoder.prediction.weight'].shape == (768, 64)
    said = read_log(runner)
    assert f'CoMA: matched {len(weights) - 2} of {len(weights)} tensors' in said
    assert 'not loaded: decoder.mask_token, decoder.prediction.weight; of another shape: decoder.prediction' in said
    assert 'left over: decoder.blocks.1.norm1.weight' in said


def test_what_load_partial_does_not_name_has_to_fit(tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r'missing in the checkpoint: decoder.mask_token; 12 unknown to the model'):
        build(tmp_path, load_from=checkpoint, load_partial=['decoder.prediction']).load_or_resume()


def test_some_of_it_has_to_fit(tmp_path):
    torch.save(dict(state_dict={'resnet.weight': torch.zeros(1)}, meta={}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='has no weight that fits the model CoMA'):
        build(tmp_path, load_from=str(tmp_path / 'other.pth'), load_partial=True).load_or_resume()
