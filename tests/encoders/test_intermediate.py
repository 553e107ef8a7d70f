"""The intermediate layer: values, gradients into every part, memory, and what goes past it."""

import math

import pytest
import torch

from fanin.encoders.bag import BagEncoder
from fanin.encoders.features import FeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer, base_encoder
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs

TOKENS, OFFSETS = torch.tensor([3, 5, 7, 3, 90]), torch.tensor([0, 2, 2, 5])


def bag(**settings):
    return BagEncoder(100, 8, embedding_dim=4, block_width=8, token_dropout=0.0, dropout=0.0, seed=1, **settings)


def widened(encoder=None, width=20, **settings):
    return IntermediateLayer(encoder or bag(), width, seed=2, **settings)


def test_x_is_the_encoder_s_vector_widened():
    encoder = widened().eval()
    weight, bias = encoder.layer.weight, encoder.layer.bias
    plain = encoder.encoder(TOKENS, OFFSETS)
    rectified = (plain.double() @ weight.double().T + bias.double()).clamp_min(0)
    expected = rectified - rectified.mean(1, keepdim=True)
    torch.testing.assert_close(encoder(TOKENS, OFFSETS), expected.float())
    assert (encoder.out_features, encoder.learned_features) == (20, 20)
    assert 0.3 < (rectified == 0).double().mean() < 0.7


def test_the_start_keeps_the_scale_of_the_features_but_for_their_mean():
    encoder = widened(FeatureEncoder(400, layer_norm=False), width=3000).eval()
    x = encoder(torch.randn(50, 400, generator=torch.Generator().manual_seed(0)))
    assert x.square().mean().item() == pytest.approx(1 - 1 / math.pi, rel=0.05)
    torch.testing.assert_close(x.mean(1), torch.zeros(50), rtol=0, atol=1e-5)


def test_dropout_leaves_the_expectation_and_is_off_in_evaluation():
    encoder = widened(width=2000, dropout=0.5)
    torch.manual_seed(0)
    trained, whole = encoder(TOKENS, OFFSETS), encoder.eval()(TOKENS, OFFSETS)
    kept = trained != 0
    torch.testing.assert_close(trained[kept], 2 * whole[kept])
    assert kept.sum() / (whole != 0).sum() == pytest.approx(0.5, abs=0.05)


def test_gradients_reach_layer_encoder_and_table_as_float64_autograd_says():
    encoder = widened()
    dx = torch.randn(3, 20, generator=torch.Generator().manual_seed(3))
    torch.autograd.backward(encoder(TOKENS, OFFSETS), dx)

    twin = widened().double()
    table = twin.table.detach().clone().requires_grad_()
    bags = torch.stack([table[[3, 5]].sum(0) / 2**0.5, torch.zeros(4), table[[7, 3, 90]].sum(0) / 3**0.5])
    inner = twin.encoder
    x = inner.final_norm(inner.mlp(inner.project(inner.norm(bags.double()))))
    twin_x = torch.relu(x @ twin.layer.weight.T + twin.layer.bias)
    twin_x = twin_x - twin_x.mean(1, keepdim=True)
    torch.autograd.backward(twin_x, dx.double())

    truth = dict(twin.named_parameters())
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, truth[name].grad.float(), rtol=1e-4, atol=1e-5)
    assert encoder.table_gradient_norm() == pytest.approx(table.grad.norm().item(), rel=1e-4)
    before = encoder.table.clone()
    encoder.table_step(0.1)
    changed = (encoder.table != before).any(1).nonzero().flatten()
    assert changed.tolist() == [3, 5, 7, 90]


def test_lexical_features_go_past_the_layer():
    encoder = widened(bag(lexical_features=50)).eval()
    plain, wide = encoder.encoder(TOKENS, OFFSETS), encoder(TOKENS, OFFSETS)
    assert isinstance(wide, ActiveInputs)
    assert (encoder.out_features, encoder.learned_features, wide.in_features) == (70, 20, 70)
    torch.testing.assert_close(wide.dense()[:, 20:], plain.dense()[:, 8:])
    rectified = torch.relu(encoder.layer(plain.dense()[:, :8]))
    torch.testing.assert_close(wide.dense()[:, :20], rectified - rectified.mean(1, keepdim=True))


def test_the_layer_is_a_group_of_its_own():
    encoder = widened()
    groups = encoder.parameter_groups()
    assert groups["intermediate"] == list(encoder.layer.parameters())
    assert groups["layers"] == encoder.encoder.dense_parameters()
    assert {id(p) for p in encoder.dense_parameters()} == {id(p) for p in encoder.parameters()}


def test_features_that_train_nothing_still_train_the_layer():
    encoder = widened(FeatureEncoder(8))
    x = encoder(torch.ones(2, 8))
    assert x.requires_grad
    assert base_encoder(encoder).dense_parameters() == []
    assert len(encoder.dense_parameters()) == 2


def test_table_state_is_the_encoder_s():
    encoder, other = widened(), widened()
    torch.autograd.backward(encoder(TOKENS, OFFSETS), torch.ones(3, 20))
    encoder.table_step(0.1)
    other.load_table_state(encoder.table_state())
    assert torch.equal(other.encoder.table_state()["touches"], encoder.table_state()["touches"])
    assert other.table_state()["touches"].sum() == 4


@pytest.mark.parametrize(
    ("settings", "message"), [({"width": 1}, "intermediate.width is 1"), ({"dropout": 1.0}, "intermediate.dropout")]
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        widened(**settings)
