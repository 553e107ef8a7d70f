"""One behavioural suite for all backends: inputs that are mostly zero may be skipped and change nothing."""

import dataclasses

import pytest
import torch

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, AdamW, Loss, Positives, SharedScores
from fanin.kernels.updates import zero_moments
from kernel_checks import SHAPES, assert_close, assert_topk, clone, integer_layer, random_input

pytestmark = pytest.mark.usefixtures("poisoned_memory")

MANY_ROWS = [*SHAPES, (90, 300, 12, 1, 200), (61, 70_000, 7, 1, 70)]


def _mostly_zero(B, D, dense):
    """x (B, D) with one value in 13 behind the dense inputs, and tiles without any."""
    x = random_input(B, D, 3)
    place = torch.arange(B * D).reshape(B, D)
    x[:, dense:] *= (place % 13 == 0)[:, dense:] & (torch.arange(B) % 150 < 40)[:, None]
    return x


def _positives(B, L):
    return Positives(torch.arange(0, 2 * B + 1, 2), torch.arange(2 * B) * 7 % L)


@pytest.mark.parametrize("update", [SGD(0.3, momentum=0.5), AdamW(0.1, eps=1.0)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("shape", MANY_ROWS)
def test_step_is_that_of_the_reference_reading_all(backend, make_layer, shape, loss, update):
    *shape, rows = shape
    truth_layer = make_layer(*shape)
    L, D = len(truth_layer.weight), truth_layer.in_features
    dense = D // 3
    x, positives = _mostly_zero(rows, D, dense), _positives(rows, L)
    shared = SharedScores(random_input(-(-L // 5), rows, 4), 5)
    results = []
    for candidate, dense_inputs in ((ReferenceBackend(), None), (backend, dense)):
        layer = dataclasses.replace(clone(truth_layer), dense_inputs=dense_inputs)
        moments = zero_moments(update, layer.weight, layer.bias)
        for step in (1, 2):
            found = candidate.train_step(
                layer, moments, x, positives, loss=loss, update=update, step=step, scale=0.5, shared=shared
            )
        results.append((layer, moments, found))
    (layer, moments, truth), (own_layer, own_moments, own) = results
    assert own.loss == pytest.approx(truth.loss, rel=1e-5)
    assert not own.dx[:, dense:].any()
    assert_close(own.dx[:, :dense], truth.dx[:, :dense])
    assert_close(own.shared_grad, truth.shared_grad)
    assert_close(own_layer.weight, layer.weight)
    assert_close(own_layer.bias, layer.bias)
    for own_moment, moment in zip(own_moments.weight, moments.weight, strict=True):
        assert_close(own_moment, moment)


@pytest.mark.parametrize("shape", MANY_ROWS)
def test_topk_is_that_of_all_inputs(backend, make_layer, shape):
    *shape, rows = shape
    layer = integer_layer(make_layer, *shape)
    x = _mostly_zero(rows, layer.in_features, layer.in_features // 3).round()
    skipping = dataclasses.replace(layer, dense_inputs=layer.in_features // 3)
    assert_topk(backend, skipping, x, min(5, len(layer.weight)), None)
