"""Weights and margins of positives, on every backend, against dense float64 arithmetic."""

import pytest
import torch

from fanin.kernels.spec import SGD, AdamW, Loss, Positives
from fanin.kernels.updates import zero_moments
from kernel_checks import SHAPES, assert_close, emphasised, random_input

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("parts", [(True, False), (False, True), (True, True)], ids=["weights", "margins", "both"])
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[1] < 1000], ids=str)
def test_train_step(backend, make_layer, make_positives, columns_of, train_densely, shape, loss, parts):
    L, D, F, G, B = shape
    layer, update = make_layer(L, D, F, G), SGD(0.2, momentum=0.9)
    batches = [(random_input(B, D, seed=i), emphasised(make_positives(B, L, seed=i), L, *parts)) for i in range(2)]
    truth = train_densely(layer.weight, columns_of(layer), layer.bias, D, batches, loss, update, factor=0.7)
    moments = zero_moments(update, layer.weight, layer.bias)
    for i, (x, positives) in enumerate(batches):
        value, dx, _ = backend.train_step(
            layer, moments, x, positives, loss=loss, update=update, step=i + 1, scale=0.7 / B
        )
        assert value == pytest.approx(truth.losses[i], rel=1e-5)
        assert_close(dx, truth.input_gradients[i], 2e-5)
    assert_close(layer.weight, truth.weight, 2e-5)
    assert_close(layer.bias, truth.bias, 2e-5)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("G", [1, 16])
def test_weights_of_one_and_margins_of_zero_change_no_bit(backend, make_layer, make_positives, loss, G):
    x, plain = random_input(33, 20), make_positives(33, 150)
    neutral = plain._replace(weights=torch.ones(len(plain.indices)), margins=torch.zeros(len(plain.indices)))
    results = []
    for positives in (plain, neutral):
        layer, update = make_layer(150, 20, 7, G), AdamW(0.01, eps=1e-4)
        moments = zero_moments(update, layer.weight, layer.bias)
        value, dx, _ = backend.train_step(layer, moments, x, positives, loss=loss, update=update, step=1, scale=1 / 33)
        results.append((torch.tensor(value), dx, layer.weight, layer.bias))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("loss", list(Loss))
def test_a_weight_of_zero_takes_the_positive_out(backend, make_layer, loss):
    """What is left of it is nothing: not even the gradient of an irrelevant label."""
    layer = make_layer(5, 4, 2)
    layer.weight.zero_()
    before = layer.bias.clone()
    positives = Positives(torch.tensor([0, 1]), torch.tensor([3]), weights=torch.zeros(1))
    update = SGD(1.0)
    moments = zero_moments(update, layer.weight, layer.bias)
    backend.train_step(layer, moments, torch.ones(1, 4), positives, loss=loss, update=update, step=1, scale=1.0)
    assert layer.bias[3] == before[3]
    assert (layer.bias[:3] < before[:3]).all()
