"""One behavioural suite for all backends: scores that clusters of labels share, against dense float64 autograd."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, Loss, Positives, SharedScores, SparseWeights
from fanin.kernels.updates import zero_moments
from kernel_checks import SHAPES, assert_close, assert_topk, clone, densify, integer_layer, random_input

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CLUSTERS = [(1, Loss.BCE), (3, Loss.SQUARED_HINGE), (16, Loss.BCE), (50, Loss.SQUARED_HINGE), (10**12, Loss.BCE)]
UPDATE = SGD(0.3, momentum=0.5, weight_decay=0.1)


def _shared(L, B, cluster_size, seed=7):
    return SharedScores(random_input(-(-L // cluster_size), B, seed), cluster_size)


def _spread(shared, L):
    """What each label adds, (B, L)."""
    return shared.scores[[label // shared.cluster_size for label in range(L)]].T


def _step(backend, layer, x, positives, shared, loss=Loss.BCE, update=UPDATE, scale=1.0, **options):
    moments = zero_moments(update, layer.weight, layer.bias)
    return backend.train_step(
        layer, moments, x, positives, loss=loss, update=update, step=1, scale=scale, shared=shared, **options
    )


class _Truth(NamedTuple):
    """One step of float64 autograd: value, gradients, and the layer after UPDATE."""

    loss: float
    dx: torch.Tensor
    shared_grad: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor


def _truth(layer, columns, x, positives, shared, loss, scale):
    L, rate = len(layer.weight), UPDATE.learning_rate
    tensors = layer.weight, layer.bias, x, shared.scores
    w, b, x, scores = (tensor.double().clone().requires_grad_() for tensor in tensors)
    dense = torch.zeros(L, layer.in_features, dtype=torch.float64).scatter(1, columns, w)
    logits = x @ dense.T + b + _spread(SharedScores(scores, shared.cluster_size), L)
    target = torch.zeros_like(logits)
    target[torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff()), positives.indices] = 1
    if loss is Loss.BCE:
        value = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    else:
        value = (1 - (2 * target - 1) * logits).relu().square().sum()
    (scale * value).backward()
    weight = w - rate * (w.grad + UPDATE.weight_decay * w)
    return _Truth(scale * value.item(), x.grad, scores.grad, weight.detach(), (b - rate * b.grad).detach())


def _assert_true(result, layer, truth):
    assert result.loss == pytest.approx(truth.loss, rel=1e-6)
    assert_close(result.dx, truth.dx, 5e-6)
    assert_close(result.shared_grad, truth.shared_grad, 5e-6)
    assert_close(layer.weight, truth.weight, 5e-6)
    assert_close(layer.bias, truth.bias, 5e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cluster_size", [3, 16])
def test_forward(backend, make_layer, columns_of, shape, cluster_size):
    L, D, F, G, B = shape
    layer, x, shared = make_layer(L, D, F, G, bias=L != 37), random_input(B, D), _shared(L, B, cluster_size)
    truth = x.double() @ densify(layer, columns_of(layer)).T + _spread(shared, L)
    assert_close(backend.forward(layer, x, shared), truth if layer.bias is None else truth + layer.bias)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("cluster_size", "loss"), CLUSTERS)
def test_train_step(backend, make_layer, make_positives, columns_of, shape, cluster_size, loss):
    L, D, F, G, B = shape
    layer, x, positives = make_layer(L, D, F, G), random_input(B, D), make_positives(B, L)
    shared = _shared(L, B, cluster_size)
    scores = shared.scores.clone()
    truth = _truth(layer, columns_of(layer), x, positives, shared, loss, 0.7 / B)
    _assert_true(_step(backend, layer, x, positives, shared, loss, scale=0.7 / B), layer, truth)
    assert torch.equal(shared.scores, scores)


@given(st.data())
def test_train_step_of_any_shape(backend, make_layer, make_positives, columns_of, data):
    L, D, B = (data.draw(st.integers(1, n), label) for n, label in ((300, "L"), (20, "D"), (150, "B")))
    F, G = data.draw(st.integers(1, D), "F"), data.draw(st.integers(1, 40), "G")
    shared = _shared(L, B, data.draw(st.integers(1, L + 1), "cluster size"))
    layer, x, positives = make_layer(L, D, F, G), random_input(B, D), make_positives(B, L)
    truth = _truth(layer, columns_of(layer), x, positives, shared, Loss.BCE, 1 / B)
    _assert_true(_step(backend, layer, x, positives, shared, scale=1 / B), layer, truth)


@pytest.mark.parametrize("G", [1, 3, 16])
@pytest.mark.parametrize("cluster_size", [1, 7, 16, 100, 203])
def test_a_cluster_over_many_threads(compiled_core, make_layer, make_positives, columns_of, G, cluster_size):
    from fanin.kernels.cpu import CpuBackend

    x, positives, shared = random_input(21, 30), make_positives(21, 203), _shared(203, 21, cluster_size)
    layer = make_layer(203, 30, 11, G)
    truth = _truth(layer, columns_of(layer), x, positives, shared, Loss.BCE, 1)
    try:
        for threads in (3, 8, 64):
            torch.set_num_threads(threads)
            results = []
            for _ in range(2):
                layer = make_layer(203, 30, 11, G)
                results.append(_step(CpuBackend(), layer, x, positives, shared))
                _assert_true(results[-1], layer, truth)
            assert torch.equal(results[0].shared_grad, results[1].shared_grad)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("G", [1, 3])
def test_results_do_not_depend_on_the_chunk(backend, make_layer, make_positives, loss, G):
    x, positives, shared = random_input(9, 30), make_positives(9, 203), _shared(203, 9, 10)
    whole = _step(backend, make_layer(203, 30, 11, G), x, positives, shared, loss)
    for chunk_size in (1, 7, 64):
        result = _step(backend, make_layer(203, 30, 11, G), x, positives, shared, loss, chunk_size=chunk_size)
        assert_close(result.shared_grad, whole.shared_grad, 1e-6)
        assert_close(result.dx, whole.dx, 1e-6)


@pytest.mark.parametrize("G", [1, 16])
def test_scores_of_zero_change_nothing(backend, make_layer, make_positives, G):
    x, positives, layer = random_input(70, 24), make_positives(70, 90), make_layer(90, 24, 5, G)
    twin, shared = clone(layer), SharedScores(torch.zeros(12, 70), 8)
    assert torch.equal(backend.forward(layer, x, shared), backend.forward(layer, x))
    for one, other in zip(backend.topk(layer, x, 4, None, shared), backend.topk(layer, x, 4, None), strict=True):
        assert torch.equal(one, other)
    with_zeros, without = _step(backend, layer, x, positives, shared), _step(backend, twin, x, positives, None)
    assert without.shared_grad is None
    assert with_zeros.loss == without.loss
    assert torch.equal(with_zeros.dx, without.dx)
    assert torch.equal(layer.weight, twin.weight)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("G", [1, 4, 16])
def test_non_finite_scores_stay_where_they_belong(backend, make_layer, make_positives, G, bad):
    L, B, size = 70, 19, 6
    layer, x, shared = make_layer(L, 24, 5, G), random_input(B, 24), _shared(L, B, size)
    shared.scores[3, 2] = bad
    cluster = torch.zeros(B, L, dtype=torch.bool)
    cluster[2, 3 * size : 4 * size] = True
    logits = backend.forward(layer, x, shared)
    assert torch.equal(logits.isfinite(), ~cluster)
    found = backend.topk(layer, x, L, None, shared)[1][2].tolist()
    expected = [label for label in range(L) if bad == math.inf or not cluster[2, label]]
    assert sorted(label for label in found if label >= 0) == expected
    result = _step(backend, layer, x, make_positives(B, L), shared)
    assert not math.isfinite(result.loss) or bad == -math.inf
    others = torch.ones(shared.scores.shape, dtype=torch.bool)
    others[3, 2] = False
    assert result.shared_grad[others].isfinite().all()
    assert result.dx[torch.arange(B) != 2].isfinite().all()
    if math.isnan(bad):
        assert result.shared_grad[3, 2].isnan()
        assert layer.weight[3 * size : 4 * size].isnan().all()
    else:
        assert result.shared_grad[3, 2].item() == pytest.approx(size if bad > 0 else 0, abs=1e-30)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cluster_size", [5, 16])
def test_topk(backend, make_layer, make_positives, shape, cluster_size):
    L, D, F, G, B = shape
    layer, x = integer_layer(make_layer, L, D, F, G), random_input(B, D).round()
    shared = SharedScores(_shared(L, B, cluster_size).scores.mul(3).round(), cluster_size)
    assert_topk(backend, layer, x, min(5, L), None, shared)
    assert_topk(backend, layer, x, L, make_positives(B, L), shared)


def test_empty_batch_gives_empty_results(backend, make_layer):
    layer, none, shared = make_layer(12, 7, 3), torch.empty(0, 7), SharedScores(torch.empty(3, 0), 5)
    assert backend.forward(layer, none, shared).shape == (0, 12)
    assert [part.shape for part in backend.topk(layer, none, 4, None, shared)] == [(0, 4), (0, 4)]


def test_float64_on_the_reference_is_exact(make_layer, make_positives, columns_of):
    single, x = make_layer(103, 40, 7, 4), random_input(11, 40).double()
    layer = SparseWeights(single.weight.double(), single.index, single.bias.double(), 4, 40)
    shared, positives = SharedScores(_shared(103, 11, 6).scores.double(), 6), make_positives(11, 103)
    truth = _truth(layer, columns_of(layer), x, positives, shared, Loss.BCE, 0.5)
    result = _step(ReferenceBackend(), layer, x, positives, shared, scale=0.5, chunk_size=25)
    assert result.loss == pytest.approx(truth.loss, rel=1e-12)
    torch.testing.assert_close(result.shared_grad, truth.shared_grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result.dx, truth.dx, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.weight, truth.weight, rtol=1e-9, atol=1e-12)


def test_shared_scores_beyond_the_reach_of_float32(backend):
    """Cluster numbers above 2^24 are no float32 integers."""
    L, G = 2**24 + 4, 2**16
    layer = SparseWeights(torch.zeros(L, 1), torch.zeros(-(-L // G), 1, dtype=torch.uint16), None, G, 1)
    scores = torch.zeros(L, 1)
    scores[2**24 + 1], scores[2**24 + 3] = 2.0, 1.0
    labels = backend.topk(layer, torch.ones(1, 1), 2, None, SharedScores(scores, 1))[1]
    assert labels.tolist() == [[2**24 + 1, 2**24 + 3]]
    target = Positives(torch.tensor([0, 1]), torch.tensor([2**24 + 1]))
    result = _step(
        backend, layer, torch.ones(1, 1), target, SharedScores(scores.zero_(), 1), Loss.SQUARED_HINGE, SGD(0.1)
    )
    assert (result.shared_grad[:, 0] < 0).nonzero()[:, 0].tolist() == [2**24 + 1]
