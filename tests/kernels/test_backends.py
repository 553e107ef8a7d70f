"""One behavioural suite for all backends: layer, gradients, fused step and top-k against dense float64 arithmetic."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.spec import SGD, AdamW, Loss, Positives, SparseWeights
from fanin.kernels.updates import zero_moments
from kernel_checks import SHAPES, assert_close, assert_topk, clone, densify, integer_layer, random_input

pytestmark = pytest.mark.usefixtures("poisoned_memory")

UPDATES = [
    SGD(0.3, weight_decay=0.1),
    SGD(0.3),
    SGD(0.2, momentum=0.9, weight_decay=0.05),
    AdamW(0.02, eps=1e-4, weight_decay=0.1),
]
LOSSES = list(Loss)
TRAINING = [
    (shape, loss, update)
    for shape in SHAPES
    for loss in LOSSES
    for update in (UPDATES if shape[0] < 1000 and shape[1] < 1000 else UPDATES[2:3])
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_forward(backend, make_layer, columns_of, shape, bias):
    L, D, F, G, B = shape
    layer, x = make_layer(L, D, F, G, bias=bias), random_input(B, D)
    logits = backend.forward(layer, x)
    truth = x.double() @ densify(layer, columns_of(layer)).T
    assert_close(logits, truth + layer.bias if bias else truth)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(backend, make_layer, columns_of, shape):
    L, D, F, G, B = shape
    layer, x, grad = make_layer(L, D, F, G), random_input(B, D), random_input(B, L, seed=2)
    columns = columns_of(layer)
    assert_close(backend.grad_input(layer, grad), grad.double() @ densify(layer, columns))
    assert_close(backend.grad_weight(layer, grad, x), (grad.double().T @ x.double()).gather(1, columns))


@pytest.mark.parametrize("G", [1, 16])
def test_every_batch_size_up_to_300(backend, make_layer, columns_of, G):
    layer, full = make_layer(35, 21, 6, G), random_input(300, 21)
    dense = densify(layer, columns_of(layer))
    logits, step = full.double() @ dense.T + layer.bias, SGD(0.0)
    for B in range(1, 301, 1 if G == 1 else 7):
        x, nothing = full[:B].contiguous(), Positives(torch.zeros(B + 1).long(), torch.zeros(0).long())
        assert_close(backend.forward(layer, x), logits[:B])
        value, dx, _ = backend.train_step(
            layer, zero_moments(step, layer.weight, layer.bias), x, nothing, loss=Loss.BCE, update=step, step=1, scale=1
        )
        assert value == pytest.approx(torch.nn.functional.softplus(logits[:B]).sum().item(), rel=1e-6)
        assert_close(dx, logits[:B].sigmoid() @ dense)


def _train(backend, layer, batches, loss, update, factor=1.0, **options):
    """Losses, input gradients and moments of some steps; the layer is trained in place."""
    moments = zero_moments(update, layer.weight, layer.bias)
    results = [
        backend.train_step(
            layer, moments, x, positives, loss=loss, update=update, step=i + 1, scale=factor / len(x), **options
        )
        for i, (x, positives) in enumerate(batches)
    ]
    return [result.loss for result in results], [result.dx for result in results], moments


@pytest.mark.parametrize(("shape", "loss", "update"), TRAINING, ids=str)
def test_train_step(backend, make_layer, make_positives, columns_of, train_densely, shape, loss, update):
    L, D, F, G, B = shape
    layer = make_layer(L, D, F, G, bias=L != 67)
    batches = [(random_input(B, D, seed=i), make_positives(B, L, seed=i)) for i in range(3 if D < 1000 else 2)]
    if isinstance(update, AdamW) and D < 1000:
        batches.append((random_input(2 * B + 1, D, seed=9), make_positives(2 * B + 1, L, seed=9)))
    truth = train_densely(layer.weight, columns_of(layer), layer.bias, D, batches, loss, update, factor=0.7)
    index = layer.index.clone()
    values, gradients, moments = _train(backend, layer, batches, loss, update, factor=0.7)
    assert values == pytest.approx(truth.losses, rel=1e-6)
    for dx, expected in zip(gradients, truth.input_gradients, strict=True):
        assert_close(dx, expected, 2e-5)
    assert_close(layer.weight, truth.weight, 2e-5)
    for state, expected in zip(moments.weight, truth.moments[0], strict=True):
        assert_close(state, expected, 2e-5)
    if layer.bias is not None:
        assert_close(layer.bias, truth.bias, 2e-5)
        for state, expected in zip(moments.bias, truth.moments[1], strict=True):
            assert_close(state, expected, 2e-5)
    assert torch.equal(layer.index, index)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("G", [1, 16])
def test_error_is_that_of_plain_float32(backend, make_layer, columns_of, make_positives, train_densely, loss, G):
    L, D, F, B = 301, 96, 32, 128
    layer, batches = make_layer(L, D, F, G), [(random_input(B, D), make_positives(B, L))]
    columns, update = columns_of(layer), SGD(1.0)
    truth = train_densely(layer.weight, columns, layer.bias, D, batches, loss, update)
    x = batches[0][0].clone().requires_grad_()
    weight, bias = layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()
    logits = torch.nn.functional.linear(x, torch.zeros(L, D).scatter(1, columns, weight), bias)
    indptr, indices, *_ = batches[0][1]
    target = torch.zeros(B, L)
    target[torch.repeat_interleave(torch.arange(B), indptr.diff()), indices] = 1
    if loss is Loss.BCE:
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / B
    else:
        value = (1 - (2 * target - 1) * logits).relu().square().sum() / B
    value.backward()
    plain = {"dx": x.grad, "weight": weight.detach() - weight.grad, "bias": bias.detach() - bias.grad}
    exact = {"dx": truth.input_gradients[0], "weight": truth.weight, "bias": truth.bias}
    (mine,), (dx,), _ = _train(backend, layer, batches, loss, update)
    own = {"dx": dx, "weight": layer.weight, "bias": layer.bias}
    for name, expected in exact.items():
        allowed = (plain[name] - expected).abs().max()
        assert (own[name] - expected).abs().max() <= 4 * allowed, name
    assert mine == pytest.approx(truth.losses[0], rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("G", [1, 3, 16])
def test_results_do_not_depend_on_the_chunk(backend, make_layer, make_positives, loss, G):
    update, batches = AdamW(0.01, eps=1e-4), [(random_input(9, 30), make_positives(9, 203))]
    results = []
    for chunk_size in (1, 7, 64, 4096, 10**9):
        layer = make_layer(203, 30, 11, G)
        values, gradients, _ = _train(backend, layer, batches, loss, update, chunk_size=chunk_size)
        results.append((torch.tensor(values), gradients[0], layer.weight, layer.bias))
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("G", [1, 16])
def test_same_threads_same_bits(backend, make_layer, make_positives, G):
    def run():
        layer = make_layer(1003, 50, 13, G)
        batches = [(random_input(67, 50, seed=i), make_positives(67, 1003, seed=i)) for i in range(2)]
        values, gradients, moments = _train(backend, layer, batches, Loss.BCE, SGD(0.1, momentum=0.9))
        return values, [*gradients, layer.weight, layer.bias, *moments.weight, *moments.bias]

    (values, tensors), (values_again, tensors_again) = run(), run()
    assert values == values_again
    assert all(map(torch.equal, tensors, tensors_again))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_loss_where_labels_are_easy(backend, make_layer, loss):
    """Millions of well-learned negatives each add a little: 1 + e^z must not be rounded to 1 first."""
    layer = make_layer(5000, 4, 2)
    layer.weight.zero_()
    layer.bias.fill_(-20.0)
    positives = Positives(torch.tensor([0, 1]), torch.tensor([3]))
    (value,), _, _ = _train(backend, layer, [(torch.ones(1, 4), positives)], loss, SGD(0.0))
    if loss is Loss.BCE:
        assert value - 20 == pytest.approx(5000 * math.log1p(math.exp(-20)), abs=2e-6)  # one rounding of the 20
        layer.bias[3] = 5.0
        (value,), _, _ = _train(backend, layer, [(torch.ones(1, 4), positives)], loss, SGD(0.0))
        expected = math.log1p(math.exp(-5)) + 4999 * math.log1p(math.exp(-20))
        assert value == pytest.approx(expected, rel=3e-6)
    else:
        assert value == 21.0**2


@pytest.mark.parametrize("logit", [-1e30, -1e4, -100.0, -88.0, -1e-30, 0.0, 88.0, 100.0, 1e4])
def test_extreme_logits(backend, make_layer, logit):
    layer = make_layer(40, 4, 2, 16)
    layer.weight.zero_()
    layer.bias.fill_(logit)
    nothing = Positives(torch.tensor([0, 0]), torch.zeros(0).long())
    (value,), _, _ = _train(backend, layer, [(torch.ones(1, 4), nothing)], Loss.BCE, SGD(1.0))
    expected = 40 * (max(logit, 0.0) + math.log1p(math.exp(-abs(logit))))
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-20)
    sigmoid = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    torch.testing.assert_close(layer.bias, torch.full((40,), logit - sigmoid), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("G", [1, 4, 16])
def test_non_finite_inputs_propagate_and_stay_where_they_belong(backend, make_layer, make_positives, loss, G, bad):
    L, D, F, B = 70, 24, 5, 19
    layer, x, positives = make_layer(L, D, F, G), random_input(B, D), make_positives(B, L)
    clean, original = x.clone(), clone(layer)
    x[2, 7] = bad
    reads = (layer.index.long() == 7).any(1).repeat_interleave(G)[:L]  # (L,)
    assert reads.any()
    assert not reads.all()
    logits, clean_logits = backend.forward(layer, x), backend.forward(layer, clean)
    assert not logits[2, reads].isfinite().any()
    untouched = torch.ones_like(logits, dtype=torch.bool)
    untouched[2, reads] = False
    assert torch.equal(logits[untouched], clean_logits[untouched])
    (value,), (dx,), _ = _train(backend, layer, [(x, positives)], loss, SGD(0.1))
    _, (clean_dx,), _ = _train(backend, original, [(clean, positives)], loss, SGD(0.1))
    assert not math.isfinite(value)
    others = torch.arange(B) != 2
    assert_close(dx[others], clean_dx[others], 1e-6)
    assert_close(layer.weight[~reads], original.weight[~reads], 1e-6)
    if math.isnan(bad):
        columns = layer.index.long().repeat_interleave(G, dim=0)[:L][reads].unique()
        assert dx[2, columns].isnan().all()
        assert layer.weight[reads].isnan().all()
        assert layer.bias[reads].isnan().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("G", [1, 16])
def test_a_nan_weight_propagates(backend, make_layer, make_positives, loss, G):
    layer, x = make_layer(40, 24, 5, G), random_input(19, 24)
    layer.weight[11, 2] = math.nan
    logits = backend.forward(layer, x)
    assert logits[:, 11].isnan().all()
    assert logits[:, torch.arange(40) != 11].isfinite().all()
    (value,), (dx,), _ = _train(backend, layer, [(x, make_positives(19, 40))], loss, SGD(0.1))
    assert math.isnan(value)
    assert dx[:, layer.index[11 // G].long()].isnan().all()
    assert layer.weight[11].isnan().all()
    assert layer.weight[torch.arange(40) != 11].isfinite().all()


def test_empty_batch_gives_empty_results(backend, make_layer):
    layer, none = make_layer(12, 7, 3), torch.empty(0, 7)
    assert backend.forward(layer, none).shape == (0, 12)
    assert backend.grad_input(layer, torch.empty(0, 12)).shape == (0, 7)
    assert torch.equal(backend.grad_weight(layer, torch.empty(0, 12), none), torch.zeros(12, 3))
    assert [part.shape for part in backend.topk(layer, none, 4, None)] == [(0, 4), (0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_topk_breaks_ties_by_the_lower_label(backend, make_layer, make_positives, shape):
    L, D, F, G, B = shape
    layer, x = integer_layer(make_layer, L, D, F, G, bias=L != 37), random_input(B, D).mul(1.5).round()
    for k in {1, min(5, L), L}:
        assert_topk(backend, layer, x, k, None)
        assert_topk(backend, layer, x, k, make_positives(B, L))


def test_topk_never_chooses_nan_and_leaves_places_empty(backend, make_layer):
    layer = integer_layer(make_layer, 9, 6, 3, 1)
    layer.weight[[0, 3, 4]] = math.nan
    layer.bias[5], layer.bias[7] = -math.inf, math.inf
    x = torch.ones(3, 6)
    exclude = Positives(torch.tensor([0, 0, 2, 11]), torch.tensor([8, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8]))
    for k in (1, 6, 9):
        assert_topk(backend, layer, x, k, exclude)
    assert backend.topk(layer, x, 2, exclude)[1][2].tolist() == [-1, -1]
    x[1, :] = math.nan
    assert (backend.topk(layer, x, 9, None)[1][1] == -1).all()


@given(st.data())
def test_topk_of_any_shape(backend, make_layer, make_positives, data):
    L, D, B = (data.draw(st.integers(1, n), label) for n, label in ((200, "L"), (20, "D"), (40, "B")))
    F, G = data.draw(st.integers(1, D), "F"), data.draw(st.integers(1, 33), "G")
    k = data.draw(st.integers(1, L), "k")
    layer, x = integer_layer(make_layer, L, D, F, G), random_input(B, D).round()
    assert_topk(backend, layer, x, k, data.draw(st.sampled_from([None, make_positives(B, L)])))


def test_mistake_10_labels_beyond_the_reach_of_float32(backend):
    """Labels above 2^24 are no float32 integers; a label that went through one would come back changed."""
    L, G = 2**24 + 4, 2**16
    weight = torch.zeros(L, 1)
    weight[2**24 + 1], weight[2**24 + 3] = 2.0, 1.0
    layer = SparseWeights(weight, torch.zeros(-(-L // G), 1, dtype=torch.uint16), None, G, 1)
    labels = backend.topk(layer, torch.ones(1, 1), 2, None)[1]
    assert labels.tolist() == [[2**24 + 1, 2**24 + 3]]
    excluded = Positives(torch.tensor([0, 1]), torch.tensor([2**24 + 1]))
    assert backend.topk(layer, torch.ones(1, 1), 1, excluded)[1].tolist() == [[2**24 + 3]]
    update, target = SGD(0.1), Positives(torch.tensor([0, 1]), torch.tensor([2**24 + 1]))
    layer.weight.zero_()
    backend.train_step(
        layer,
        zero_moments(update, weight, None),
        torch.ones(1, 1),
        target,
        loss=Loss.SQUARED_HINGE,
        update=update,
        step=1,
        scale=1.0,
    )
    assert (weight > 0).nonzero()[:, 0].tolist() == [2**24 + 1]
