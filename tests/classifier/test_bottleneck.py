"""The dense bottleneck: the function of two linear layers, trained as autograd would train them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.classifier.bottleneck import BottleneckLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.spec import SGD, AdamW, Loss

L, D, F = 50, 12, 4


def _as_linears(layer):
    model = nn.Sequential(nn.Linear(D, F, bias=False), nn.Linear(F, L)).to(layer.dtype)
    names = ("0.weight", "1.weight", "1.bias")
    model.load_state_dict(dict(zip(names, (layer.projection, layer.output.weight, layer.output.bias), strict=True)))
    return model


def _target(positives, B):
    target = torch.zeros(B, L, dtype=torch.float64)
    target[torch.repeat_interleave(torch.arange(B), positives.indptr.diff()), positives.indices] = 1
    return target


def test_same_function_as_two_linear_layers():
    layer = BottleneckLinear(D, L, F)
    x = torch.randn(2, 3, D)
    torch.testing.assert_close(layer(x), _as_linears(layer)(x))


@pytest.mark.parametrize("chunk_size", [7, 1000])
@pytest.mark.parametrize("update", [SGD(0.3), SGD(0.2, 0.9), AdamW(0.02, eps=1e-4)], ids=str)
def test_steps_are_those_of_autograd(make_positives, update, chunk_size):
    layer = BottleneckLinear(D, L, F, dtype=torch.float64, chunk_size=chunk_size)
    twin = _as_linears(layer)
    if isinstance(update, SGD):
        optimizer = torch.optim.SGD(twin.parameters(), update.learning_rate, update.momentum)
    else:
        optimizer = torch.optim.AdamW(twin.parameters(), update.learning_rate, eps=update.eps, weight_decay=0)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        x = torch.randn(6, D, dtype=torch.float64, generator=generator, requires_grad=True)
        positives = make_positives(6, L, seed=step)
        value, dx = layer.train_step(x, positives, Loss.BCE, update, weight=0.5)
        target = _target(positives, 6)
        loss = 0.5 * functional.binary_cross_entropy_with_logits(twin(x), target, reduction="sum") / 6
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert value == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close(dx, x.grad)
    for mine, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_start_at_zero_can_learn(make_positives):
    layer = BottleneckLinear(D, L, F, initial_scale=0.0)
    assert not layer.output.weight.any()
    x, positives = torch.randn(8, D, generator=torch.Generator().manual_seed(0)), make_positives(8, L)
    losses = [layer.train_step(x, positives, Loss.BCE, AdamW(0.05))[0] for _ in range(100)]
    assert losses[-1] < losses[0] / 4


def test_the_projection_keeps_the_variance_of_x():
    layer = BottleneckLinear(400, 3, 300)
    x = torch.randn(500, 400, generator=torch.Generator().manual_seed(0))
    assert functional.linear(x, layer.projection).var().item() == pytest.approx(1, abs=0.1)


def test_sizes():
    layer = BottleneckLinear(D, L, F)
    assert layer.connections == D * F + F * L
    assert layer.nbytes() == {"projection": 4 * D * F, "output.weight": 4 * F * L, "output.bias": 4 * L}
    assert layer.sparse_parts() == ()


@pytest.mark.parametrize("width", [0, D + 1])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ConfigError, match=f"width={width} must lie between 1 and the number of inputs, {D}"):
        BottleneckLinear(D, L, width)


def test_state_that_fits_the_output_but_not_the_projection_is_refused(make_positives):
    layer = BottleneckLinear(D, L, F)
    layer.train_step(torch.ones(2, D), make_positives(2, L), Loss.BCE, AdamW(0.1))
    state = {name: tensor for name, tensor in layer.optimizer_state().items() if not name.startswith("projection")}
    with pytest.raises(CheckpointError, match=r"'projection\.0' does not fit"):
        BottleneckLinear(D, L, F).load_optimizer_state(state, 1)
