import pytest
import torch

from coma_mm.evaluation import Validator
from coma_mm.evaluation.features import preprocess
from coma_mm.models import CoMA


class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, number):
        generator = torch.Generator().manual_seed(int(number))
        return dict(inputs=torch.randint(256, (3, 64, 64), generator=generator, dtype=torch.uint8))


@pytest.mark.parametrize('mode', ['copy', 'ema', 'off', 'align'])
@pytest.mark.parametrize('norm_pix', [True, False])
def test_losses_are_those_of_training(mode, norm_pix):
    torch.manual_seed(0)
    model = CoMA(
        dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=2, num_heads=4),
        dict(mode=mode),
        norm_pix=norm_pix,
        data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[120] * 3, std=[60] * 3),
    )
    if mode == 'ema':  # the branches differ
        for parameter in model.backbone.parameters():
            parameter.data *= 1.1
    model.eval()
    validator = Validator(Noise(), 5, batch=2)
    measured = validator.measure(model)
    with torch.no_grad():
        losses = model.loss(preprocess(model, validator.images), dict(mask=validator.masks(16)))
    assert measured['loss'] == pytest.approx(losses['mse_adaptive'].item(), abs=2e-5)
    assert ('loss_evaluation' in measured) == ('mse_evaluation' in losses)
    if 'mse_evaluation' in losses:
        assert measured['loss_evaluation'] == pytest.approx(losses['mse_evaluation'].item(), abs=2e-5)
    assert measured.keys() >= {'psnr', 'psnr_assembled'}
