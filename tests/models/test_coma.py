"""The algorithm: who sees what, who predicts what, who learns from what."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample

from coma_mm.masking import num_hidden
from coma_mm.models import CoMA
from coma_mm.models.alignment import cosine_loss, jitter_colours, spread_loss
from coma_mm.models.mask_units import hidden_mask, read_masked_units
from coma_mm.models.pixel_target import unit_errors

DECODER = dict(type='coma_mm.ViTDecoder', dim=32, depth=2, num_heads=4)
BACKBONE = dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2)


def build(seed=0, **options):
    torch.manual_seed(seed)
    options = {'backbone': BACKBONE, 'decoder': DECODER, **options}
    return CoMA(**options).train()


def sample(grid=(4, 4), unit_size=16, batch=2, ratio=0.6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    units = grid[0] * grid[1]
    order = torch.rand(batch, units, generator=generator).argsort(1)
    mask = torch.zeros(batch, units, dtype=torch.bool).scatter(1, order[:, : num_hidden(units, ratio)], True)
    images = torch.randn(batch, 3, grid[0] * unit_size, grid[1] * unit_size, generator=generator)
    return images, mask.view(batch, *grid)


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


def gradients(model, images, mask):
    model.zero_grad()
    losses = model(images, dict(mask=mask), mode='loss')
    total(losses).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def advance(model, images, mask):
    """Take a step of gradient descent; return what :func:`gradients` does."""
    found = gradients(model, images, mask)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    return found


def predict(model, images, mask):
    """Return the prediction of every unit, (B, U, V)."""
    masked = read_masked_units(images, dict(mask=mask), model.unit_size)
    return model._decode([model._adaptive_branch(images, masked), model._evaluation_branch(images, masked)], masked)


class Recorder(torch.nn.Module):
    """An encoder of the plainest kind, which notes the units that it is shown. Its token is the unit's mean colour."""

    unit_size, unit_channels = 16, (3,)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.seen = []

    def forward(self, images, ids_keep):
        self.seen.append((ids_keep, torch.is_grad_enabled(), self.training))
        means = torch.nn.functional.avg_pool2d(images, self.unit_size).flatten(2).transpose(1, 2)
        return (means[torch.arange(len(images))[:, None], ids_keep] * self.scale,)


@pytest.mark.parametrize('grid', [(2, 2), (3, 5), (7, 7)])
@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.6, 0.75])
def test_branches_partition_the_image(grid, ratio):
    encoder = Recorder()
    model = build(backbone=encoder)
    images, mask = sample(grid, ratio=ratio, batch=3)
    model(images, dict(mask=mask), mode='loss')
    (adaptive, with_gradient, training), (evaluation, frozen_gradient, frozen_training) = encoder.seen
    assert with_gradient and training and not frozen_gradient and not frozen_training and encoder.training
    units = torch.arange(grid[0] * grid[1]).expand(3, -1)
    assert torch.equal(torch.cat([adaptive, evaluation], 1).sort(1).values, units)
    hidden = mask.flatten(1)
    assert not hidden.gather(1, adaptive).any() and hidden.gather(1, evaluation).all()
    assert evaluation.shape[1] == round(ratio * grid[0] * grid[1])


@pytest.mark.parametrize('norm_pix', [False, True])
def test_no_unit_is_predicted_by_a_branch_that_saw_it(norm_pix):
    """Change one unit: its own prediction must stay as it was, to the bit, while other predictions move."""
    model = build(norm_pix=norm_pix).eval()
    images, mask = sample(batch=1)
    images, mask = images.expand(16, -1, -1, -1), mask.expand(16, -1, -1)
    changed = images.clone()
    for unit in range(16):  # image u of the batch is changed in unit u
        row, column = divmod(unit, 4)
        changed[unit, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] += 1 + torch.rand(3, 16, 16)
    with torch.no_grad():
        moved = (predict(model, images, mask) != predict(model, changed, mask)).any(-1)
    same_branch = mask[0].flatten()[:, None] == mask[0].flatten()
    assert torch.equal(moved, ~same_branch)


def test_reconstruction_is_assembled_from_both_branches():
    images, mask = sample()
    model = build(norm_pix=False)
    assembled = model.reconstruct(images, mask)
    assert assembled.shape == images.shape and model.training and not assembled.requires_grad
    model.eval()
    with torch.no_grad():
        expected = model.target.to_image(predict(model, images, mask), images)
    torch.testing.assert_close(assembled, expected)


def test_loss_is_the_mean_over_all_units():
    model = build()
    images, mask = sample()
    losses = model(images, dict(mask=mask), mode='loss')
    prediction = predict(model, images, mask)
    errors = (prediction - model.target(images)).square()
    torch.testing.assert_close(total(losses), errors.mean())
    hidden = mask.flatten(1)
    torch.testing.assert_close(losses['mse_adaptive'], errors[hidden].mean())
    torch.testing.assert_close(losses['mse_evaluation'], errors[~hidden].mean())


def test_copy_every_step_equals_an_explicit_copy():
    """The current encoder under no_grad is a deep copy taken every step: same loss, same gradients, to the bit."""
    backbone = {**BACKBONE, 'drop_path_rate': 0.3}
    images, mask = sample()
    implicit, explicit = build(backbone=backbone), build(backbone=backbone)
    explicit.evaluation = torch.nn.Identity()  # replaced below; train() and eval() reach it as they do a second model
    for step in range(3):
        results = []
        for model in (implicit, explicit):
            if model is explicit:
                frozen = copy.deepcopy(model.backbone).eval().requires_grad_(False)
                frozen.update_parameters = lambda source: None
                model.evaluation = frozen
            torch.manual_seed(step)
            results.append(advance(model, images, mask))
        (losses_a, grads_a), (losses_b, grads_b) = results
        assert losses_a == losses_b
        grads_b = {name: grad for name, grad in grads_b.items() if not name.startswith('evaluation')}
        assert grads_a.keys() == grads_b.keys()
        assert all(torch.equal(grads_a[name], grads_b[name]) for name in grads_a)


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(evaluation=dict(mode='copy', interval=3)),
        dict(evaluation=dict(mode='ema', momentum=0.1)),
        dict(evaluation=dict(mode='off')),
        dict(evaluation=dict(mode='off'), predict_visible=1.0, keep_apart=1.0),
        dict(evaluation=dict(mode='align')),
        dict(evaluation=dict(mode='align', momentum=0.1), predict_visible=0.5),
        dict(evaluation=dict(mode='align'), fuse_stages=True),
        dict(fuse_stages=True),
        dict(norm_pix=False),
        dict(decoder=dict(type='coma_mm.ConvNeXtDecoder', dim=32, depth=2)),
        dict(backbone={**BACKBONE, 'windows': (4, 2, None, None)}),
        dict(backbone={**BACKBONE, 'attention': ('msa',) * 4}),
        dict(backbone={**BACKBONE, 'kv_conv': 'dense'}),
        dict(backbone={**BACKBONE, 'windows': ((2, 4, 4, 8), (1, 1, 2, 2, 2, 2, 4, 4), None, None)}),
    ],
    ids=str,
)
def test_every_trainable_parameter_gets_a_gradient_and_the_frozen_branch_none(options):
    model = build(**options)
    images, mask = sample(grid=(3, 5))
    losses, grads = gradients(model, images, mask)
    assert total(losses).isfinite()
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert grads.keys() == names
    assert not any(name.startswith('evaluation') for name in names)


@pytest.mark.parametrize('mode', ['copy', 'ema', 'align'])
def test_evaluation_branch_in_bf16_moves_losses_by_less_than_a_thousandth(mode, monkeypatch):
    images, mask = sample(batch=16)  # of two alone, normalisation makes much of a little
    evaluation = dict(mode=mode, jitter=0) if mode == 'align' else dict(mode=mode)
    losses, types = [], []
    for is_fast in (False, True):
        monkeypatch.setattr('coma_mm.models.coma.has_fast_bf16', lambda is_fast=is_fast: is_fast)
        model = build(evaluation=evaluation)
        encoder = model.evaluation.module if mode == 'ema' else model.backbone
        hook = encoder.stages[0].blocks[0].mlp.register_forward_hook(lambda *args: types.append(args[-1].dtype))
        losses.append(model(images, dict(mask=mask), mode='loss'))
        hook.remove()
    assert types[-1] == torch.bfloat16 and set(types[:-1]) == {torch.float32}
    assert all(loss.dtype == torch.float32 for loss in losses[1].values())
    for name, loss in losses[0].items():
        assert abs(loss - losses[1][name]) < 1e-3, name


@pytest.mark.parametrize('ratio', [0.5, 0.6])
def test_what_the_encoder_learns_is_what_plain_masked_autoencoding_teaches_it(ratio):
    """At equal weights, times the share of hidden units: the evaluation branch acts through the decoder it trains."""
    images, mask = sample(ratio=ratio)
    encoders, decoders = [], []
    for mode in ('copy', 'off'):
        model = build(evaluation=dict(mode=mode)).double()
        _, found = gradients(model, images.double(), mask)
        encoders.append({name: grad for name, grad in found.items() if name.startswith('backbone')})
        decoders.append(found['decoder.blocks.0.mlp.0.weight'])
    fraction = round(ratio * 16) / 16
    for name, grad in encoders[0].items():
        torch.testing.assert_close(grad, fraction * encoders[1][name], rtol=1e-9, atol=1e-12, msg=name)
    assert torch.cosine_similarity(*(grad.flatten() for grad in decoders), 0) < 0.99


@pytest.mark.parametrize('fails', [False, True])
def test_modes_are_what_they_were_afterwards(fails):
    model = build(evaluation=dict(mode='copy'))
    images, mask = sample()
    model.backbone.stages[1].eval()  # as someone might who trains the rest
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    if fails:
        model.backbone.stages[3].downsample.register_forward_pre_hook(lambda *args: 1 / 0)
        for call in (lambda: model(images, dict(mask=mask), mode='loss'), lambda: model.reconstruct(images, mask)):
            with pytest.raises(ZeroDivisionError):
                call()
    else:
        model(images, dict(mask=mask), mode='loss')
        model.reconstruct(images, mask)
    assert {name: module.training for name, module in model.named_modules()} == before


def test_off_is_plain_masked_autoencoding():
    model, full = build(evaluation=dict(mode='off')), build()
    images, mask = sample()
    losses, expected = (m(images, dict(mask=mask), mode='loss') for m in (model, full))
    assert set(losses) == {'loss_adaptive', 'mse_adaptive'}
    torch.testing.assert_close(losses['loss_adaptive'], expected['mse_adaptive'])


def test_visible_units_are_predicted_beside_the_hidden_ones():
    model, plain = (build(evaluation=dict(mode='off'), predict_visible=weight).double() for weight in (0.5, 0))
    images, mask = sample()
    (losses, expected) = (m(images.double(), dict(mask=mask), mode='loss') for m in (model, plain))
    assert set(losses) == {'loss_adaptive', 'loss_visible', 'mse_adaptive'}  # held-out losses are of hidden units
    torch.testing.assert_close(losses['mse_adaptive'], expected['mse_adaptive'])
    masked = read_masked_units(images, dict(mask=mask), model.unit_size)
    prediction = model._decode([model._adaptive_branch(images.double(), masked)], masked, every=True)
    errors = unit_errors(prediction, model.target(images.double()))
    torch.testing.assert_close(losses['loss_visible'], 0.5 * errors[~mask.flatten(1)].mean())
    assert model.reconstruct(images.double(), mask).shape == images.shape


def test_halves_are_aligned_by_the_encoder_and_the_projector_alone():
    model, (images, mask) = build(evaluation=dict(mode='align', weight=2.0, jitter=0)), sample(batch=4)
    decoded, seen = [], []
    model.decoder.register_forward_pre_hook(lambda module, inputs: decoded.append(len(inputs[0])))
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append((inputs[1], output[-1])))
    losses = model(images, dict(mask=mask), mode='loss')
    hidden = mask.flatten(1)
    assert decoded == [4] and [hidden.gather(1, idx).unique().tolist() for idx, _ in seen] == [[False], [True]]
    assert [tokens.requires_grad for _, tokens in seen] == [True, False]
    one, other = (model.alignment.projector(tokens.mean(1)) for _, tokens in seen)
    torch.testing.assert_close(losses['loss_align'], 2 * ((one - other).square().mean() + spread_loss(one)))
    losses['loss_align'].backward()
    reached = {name.partition('.')[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {'backbone', 'alignment'}
    alone = model.loss(images[:1], dict(mask=mask[:1]))['loss_align']  # nothing to compare with
    assert alone == 0 and alone.requires_grad
    assert set(model.eval().loss(images, dict(mask=mask))) == {'loss_adaptive', 'mse_adaptive'}


def test_terms_of_alignment():
    """Against numbers that are worked out by hand: two values, opposite in both of two images."""
    spread = spread_loss(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    deviation = (0.5 + 1e-4) ** 0.5
    torch.testing.assert_close(spread, torch.tensor(1 - deviation + 80 * 2 * 0.25 / 4))
    tokens = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])  # squared cosines of 0.5, 0.5 and 0
    torch.testing.assert_close(cosine_loss(tokens), torch.tensor(1 / 3))


def test_colours_change_and_shapes_do_not():
    images = torch.randn(64, 3, 4, 4)
    assert jitter_colours(images, 0) is images
    changed = jitter_colours(images, 0.4)
    grey = (changed.std(1).amax((1, 2)) < 1e-6).float().mean()
    assert changed.shape == images.shape and 0.02 < grey < 0.4
    for old, new in zip(images.mean(1).flatten(1), changed.mean(1).flatten(1)):  # brightness, up to a line
        assert torch.corrcoef(torch.stack([old, new]))[0, 1] > 0.999


def test_tokens_are_kept_apart_in_the_first_tenth_of_a_run():
    model, (images, mask) = build(evaluation=dict(mode='off'), keep_apart=2.0), sample()
    seen: list = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output[-1].mean(1)))
    hub, found = MessageHub.get_instance('beginning'), []
    try:
        for step in (0, 4, 9, 50):
            hub.update_info_dict(dict(iter=step, max_iters=100))
            found.append(model.loss(images, dict(mask=mask))['loss_apart'])
    finally:
        MessageHub._instance_dict.pop('beginning')
    torch.testing.assert_close(torch.stack(found), 2 * torch.tensor([0.9, 0.5, 0, 0]) * cosine_loss(seen[0]))
    assert 'loss_apart' not in model.eval().loss(images, dict(mask=mask))


def test_losses_of_all_three_tasks_fall():
    arch = dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4))
    model = build(backbone={**BACKBONE, 'arch': arch}, evaluation=dict(mode='align'), predict_visible=1.0)
    images, mask = sample(batch=8)
    optimizer, found = torch.optim.AdamW(model.parameters(), 2e-3), []
    for _ in range(25):
        optimizer.zero_grad()
        losses = model.loss(images, dict(mask=mask))
        total(losses).backward()
        optimizer.step()
        found.append({name: value.item() for name, value in losses.items()})
    for name in ('loss_adaptive', 'loss_visible', 'loss_align'):
        assert sum(line[name] for line in found[-5:]) < 0.97 * sum(line[name] for line in found[:5]), name


def test_copy_with_interval_lags_behind():
    model = build(evaluation=dict(mode='copy', interval=2))
    images, mask = sample()
    for step in range(5):
        current = model.backbone.patch_embed.weight.clone()
        advance(model, images, mask)
        if step % 2 == 0:
            latest = current
        assert torch.equal(model.evaluation.module.patch_embed.weight, latest), step


def test_ema_is_a_moving_average():
    model = build(evaluation=dict(mode='ema', momentum=0.1))
    images, mask = sample()
    average = None
    for _ in range(4):
        current = model.backbone.patch_embed.weight.clone()
        advance(model, images, mask)
        average = current if average is None else average * 0.9 + current * 0.1
        torch.testing.assert_close(model.evaluation.module.patch_embed.weight.data, average.data)


def test_second_model_is_in_the_state_dict_and_stays_in_eval_mode():
    model = build(evaluation=dict(mode='ema', momentum=0.1))
    images, mask = sample()
    advance(model, images, mask)
    other = build(seed=5, evaluation=dict(mode='ema', momentum=0.1))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.evaluation.module.patch_embed.weight, model.evaluation.module.patch_embed.weight)
    assert other.evaluation.steps == 1 and not model.evaluation.training
    assert not any(key.startswith('evaluation') for key in build().state_dict())


def test_autocast_keeps_the_gradients_of_the_shared_weights():
    """Under autocast a weight's cast is cached; reused from the branch without gradient it would cut the other's."""
    images, mask = sample()
    model = build(norm_pix=False)
    _, exact = gradients(model, images, mask)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses, rounded = gradients(model, images, mask)
    assert total(losses).dtype == torch.float32 and rounded.keys() == exact.keys()
    for name in exact:
        cosine = torch.cosine_similarity(rounded[name].flatten().float(), exact[name].flatten(), 0)
        assert cosine > 0.98, name


def test_data_samples_of_mmpretrain():
    images, mask = sample()
    samples = [DataSample().set_mask(m) for m in mask]
    model = build()
    a, b = (model(images, masks, mode='loss') for masks in (samples, dict(mask=mask)))
    assert a == b


def test_tensor_mode_gives_maps_of_whole_images():
    assert build()(torch.randn(1, 3, 64, 64))[0].shape == (1, 256, 4, 4)
    with pytest.raises(RuntimeError, match="got 'predict'"):
        build()(torch.randn(1, 3, 64, 64), mode='predict')


def test_layer_depth_counts_the_decoder_as_head():
    model = build()
    assert model.get_layer_depth('backbone.patch_embed.weight') == (0, 9)
    assert model.get_layer_depth('decoder.mask_token') == (8, 9)


def test_wrong_masks_are_named():
    model = build()
    images, mask = sample()
    with pytest.raises(ValueError, match=r"add dict\(type='coma_mm.ComplementaryMask'"):
        model(images, [DataSample(), DataSample()], mode='loss')
    with pytest.raises(ValueError, match=r'masks of shape \(2, 3, 4\) do not fit 2 images of 64 x 64 px'):
        model(images, dict(mask=mask[:, :3]), mode='loss')
    with pytest.raises(ValueError, match=r'masks hide \[0, 16\] of 16 units: hide as many of each'):
        model(images, dict(mask=torch.arange(2).view(2, 1, 1).expand(2, 4, 4) > 0), mode='loss')
    units = read_masked_units(images, dict(mask=mask), 16)
    with pytest.raises(ValueError, match='masks of 15 units for 2 images do not fit 2 images'):
        model(images, dict(ids_keep=units.ids_keep[:, 1:], ids_mask=units.ids_mask), mode='loss')
    with pytest.raises(ValueError, match='16 px units: use'):
        model(images[..., :60], dict(mask=mask), mode='loss')
    with pytest.raises(ValueError, match=r'masks hide \[0, 1\] of 1 units'):
        model(images[..., :16, :16], dict(mask=mask[:, :1, :1]), mode='loss')


def test_lists_of_units_are_masks():
    images, mask = sample(ratio=0.3)
    model = build()
    units = read_masked_units(images, dict(mask=mask), 16)
    assert torch.equal(hidden_mask(units).view_as(mask), mask)
    lists = dict(ids_keep=units.ids_keep, ids_mask=units.ids_mask)
    assert model(images, lists, mode='loss') == model(images, dict(mask=mask), mode='loss')


def test_compiled_blocks_compute_the_same_and_keep_their_names():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    shallow = dict(BACKBONE, arch=dict(dims=(32, 64, 128, 256), depths=(1, 1, 1, 1), heads=(4, 8, 4, 8)))
    plain, compiled = (
        build(backbone=shallow, compile=how) for how in (False, dict(backend='aot_eager'))
    )  # traced as ever, without the C++ compiler
    assert list(compiled.state_dict()) == list(plain.state_dict())
    compiled.load_state_dict(plain.state_dict())
    images, mask = sample()
    for model in (plain, compiled):
        total(model(images, dict(mask=mask), mode='loss')).backward()
    torch.testing.assert_close(
        dict((name, parameter.grad) for name, parameter in compiled.named_parameters()),
        dict((name, parameter.grad) for name, parameter in plain.named_parameters()),
        rtol=1e-3,
        atol=1e-5,
    )
    # Beyond a limit, which the stages with and without gradient would reach, blocks silently run as they are.
    counters = torch._dynamo.utils.counters
    assert counters['frames']['total'] == counters['frames']['ok'] > 0 and not counters['graph_break']
