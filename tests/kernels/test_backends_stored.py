"""One behavioural suite for all backends: weights stored in bfloat16 or float8, against float64 truth."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.drawing import mix_seed
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.rounding import round_stochastically
from fanin.kernels.spec import SGD, AdamW, Loss, Moments, Positives, Prune, SharedScores
from fanin.kernels.updates import zero_moments
from kernel_checks import SHAPES, assert_close, clone, densify, emphasised, random_input

pytestmark = pytest.mark.usefixtures("poisoned_memory")

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
FORMATS = pytest.mark.parametrize("dtype", [BF16, FP8], ids=["bf16", "fp8"])
UPDATES = [SGD(0.3), SGD(0.3, weight_decay=0.1), SGD(0.2, momentum=0.9), AdamW(0.02, eps=1e-4, weight_decay=0.1)]
SPACING = {BF16: 2**-8, FP8: 2**-4}  # at most, of neighbours, as a share of the number; half of it without a bit more


def _stored(layer, dtype, seed=3):
    """The layer with its weights in a format, and its twin in float32 of the same weights."""
    weight = layer.weight.to(dtype)
    return replace(layer, weight=weight, rounding_seed=seed), replace(layer, weight=weight.float())


def _codes(weight):
    return weight.view(torch.uint16 if weight.dtype is BF16 else torch.uint8)


@pytest.fixture(scope="module")
def float32_backend(backend):
    """Backends that compute in float32 with weights in few bits."""
    if backend.name == "triton":
        pytest.skip("its products take both operands in bfloat16; tests/kernels/triton/test_steps.py has the bounds")
    return backend


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operations_read_the_weights_as_they_are(float32_backend, make_layer, make_positives, columns_of, shape, dtype):
    L, D, F, G, B = shape
    backend = float32_backend
    layer, twin = _stored(make_layer(L, D, F, G, bias=L != 67), dtype)
    x, grad = random_input(B, D), random_input(B, L, seed=2)
    dense = densify(twin, columns_of(layer))
    logits = backend.forward(layer, x)
    assert logits.dtype == torch.float32
    assert_close(logits, x.double() @ dense.T + (0 if layer.bias is None else layer.bias))
    assert_close(backend.grad_input(layer, grad), grad.double() @ dense)
    assert backend.grad_weight(layer, grad, x).dtype == torch.float32
    assert torch.equal(backend.grad_weight(layer, grad, x), backend.grad_weight(twin, grad, x))
    exclude = make_positives(B, L)
    for found, expected in zip(
        backend.topk(layer, x, min(L, 5), exclude), backend.topk(twin, x, min(L, 5), exclude), strict=True
    ):
        assert torch.equal(found, expected)


@FORMATS
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[1] < 1000], ids=str)
def test_a_step_is_that_of_float32_and_then_rounds(
    float32_backend, make_layer, make_positives, columns_of, train_densely, shape, update, loss, dtype
):
    L, D, F, G, B = shape
    layer, twin = _stored(make_layer(L, D, F, G, bias=L != 67), dtype)
    batches = [(random_input(B, D), make_positives(B, L))]
    truth = train_densely(twin.weight, columns_of(layer), twin.bias, D, batches, loss, update)
    moments = zero_moments(update, layer.weight, layer.bias)
    value, dx, _ = float32_backend.train_step(
        layer, moments, *batches[0], loss=loss, update=update, step=1, scale=1 / B, chunk_size=40
    )
    assert value == pytest.approx(truth.losses[0], rel=1e-6)
    assert_close(dx, truth.input_gradients[0], 5e-6)
    if layer.bias is not None:
        assert_close(layer.bias, truth.bias, 5e-6)
    for state, expected in zip(moments.weight, truth.moments[0], strict=True):
        assert state.dtype == torch.float32
        assert_close(state, expected, 5e-6)
    # What is stored is the true weight rounded with the described bits: but for the few where the float32 and the
    # float64 weight lie on two sides of the bits' threshold.
    assert layer.weight.dtype == dtype
    expected = round_stochastically(truth.weight.float(), dtype, layer.rounding_seed, 1)
    same = _codes(layer.weight) == _codes(expected)
    assert (~same).sum() <= 2 + 0.001 * same.numel()
    gap = (layer.weight.double() - expected.double()).abs()[~same]
    assert (gap <= 2 * SPACING[dtype] * truth.weight.abs()[~same] + 2**-9 + 1e-9).all()


@FORMATS
@given(st.data())
def test_a_step_of_any_shape_with_all_that_it_can_have(float32_backend, make_layer, make_positives, dtype, data):
    """Shared scores, weights and margins of positives, inputs that are mostly zero: as with float32."""
    backend = float32_backend
    L, D, B = (data.draw(st.integers(1, n), label) for n, label in ((200, "L"), (40, "D"), (90, "B")))
    F, G = data.draw(st.integers(1, D), "F"), data.draw(st.integers(1, 20), "G")
    dense, size = data.draw(st.integers(1, D), "dense inputs"), data.draw(st.integers(1, L + 1), "cluster size")
    layer, twin = (replace(one, dense_inputs=dense) for one in _stored(make_layer(L, D, F, G), dtype))
    twin = clone(twin)
    x = random_input(B, D)
    x[:, dense:] *= torch.rand(B, D - dense, generator=torch.Generator().manual_seed(4)) < 0.05
    positives = emphasised(make_positives(B, L), L)
    shared = SharedScores(random_input(-(-L // size), B, seed=7), size)
    results = [
        backend.train_step(
            one, Moments(), x, positives, loss=Loss.BCE, update=SGD(0.3), step=2, scale=1 / B, shared=shared
        )
        for one in (layer, twin)
    ]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-6)
    assert_close(results[0].dx, results[1].dx)
    assert_close(results[0].shared_grad, results[1].shared_grad)
    assert_close(layer.bias, twin.bias)
    # Both compute the same float32 weights, in the same order of sums.
    expected = round_stochastically(twin.weight, dtype, layer.rounding_seed, 2)
    assert torch.equal(layer.weight.float(), expected.float())
    found, best = backend.topk(layer, x, min(3, L), positives, shared), backend.topk(layer, x, L, positives, shared)
    assert torch.equal(found[1], best[1][:, : min(3, L)])


@FORMATS
@pytest.mark.parametrize("G", [1, 16])
def test_the_error_is_far_below_that_of_arithmetic_in_bfloat16(float32_backend, make_layer, columns_of, dtype, G):
    """What plain torch makes of the same weights in bfloat16, the format of its matrix products in few bits."""
    layer, twin = _stored(make_layer(301, 96, 32, G, bias=False), dtype)
    x, grad = random_input(64, 96), random_input(64, 301, seed=2)
    dense = densify(twin, columns_of(layer))
    own = float32_backend.forward(layer, x), float32_backend.grad_input(layer, grad)
    plain = x.bfloat16() @ dense.bfloat16().T, grad.bfloat16() @ dense.bfloat16()
    truth = x.double() @ dense.T, grad.double() @ dense
    for mine, theirs, exact in zip(own, plain, truth, strict=True):
        assert (mine - exact).abs().max() <= 0.001 * (theirs.double() - exact).abs().max()


@FORMATS
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("G", [1, 4])
def test_what_is_not_finite_stays_so_and_where_it_belongs(backend, make_layer, make_positives, dtype, G, bad):
    layer, _ = _stored(make_layer(40, 24, 5, G), dtype)
    layer.weight[11, 2] = math.nan
    x, column = random_input(19, 24), int(layer.index[0, 0])
    assert backend.forward(layer, x)[:, 11].isnan().all()
    x[2, column] = bad
    backend.train_step(
        layer, Moments(), x, make_positives(19, 40), loss=Loss.BCE, update=SGD(0.1), step=1, scale=1 / 19
    )
    reads = (layer.index.long() == column).any(1).repeat_interleave(G)[:40]
    reads[11] = True
    finite = layer.weight.float().isfinite()
    assert finite[~reads].all()
    assert not finite[11].any()
    assert not finite[0, 0]


@FORMATS
@pytest.mark.parametrize("first", [0, 2**32 - 70_000])
def test_round_into_is_bit_for_bit_the_described_one(backend, dtype, first):
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(300, 533, generator=generator) * 10.0 ** torch.randint(-8, 4, (300, 1), generator=generator)
    values[7, :6] = torch.tensor([math.nan, math.inf, -math.inf, 3e38, -3.4028e38, -0.0])
    values[8] = torch.randint(-(2**31), 2**31, (533,), generator=generator).int().view(torch.float32)  # any bits
    out = torch.zeros(300, 533, dtype=dtype)
    backend.round_into(values, out, 12, 34, first)
    assert torch.equal(_codes(out), _codes(round_stochastically(values, dtype, 12, 34, first)))


@FORMATS
def test_every_number_is_widened_exactly(backend, dtype):
    codes = torch.arange(2 ** (8 * dtype.itemsize), dtype=torch.int32)
    stored = codes.to(torch.uint16 if dtype is BF16 else torch.uint8).view(dtype).repeat(3)
    out = torch.empty(len(stored))
    backend.widen_into(stored, out)
    assert torch.equal(out.nan_to_num(nan=7e38), stored.float().nan_to_num(nan=7e38))
    assert torch.equal(out.signbit()[~out.isnan()], stored.float().signbit()[~out.isnan()])


@FORMATS
@pytest.mark.parametrize("G", [1, 3])
def test_rounding_is_bit_for_bit_the_described_one(backend, make_layer, dtype, G):
    """Weight decay alone makes float32 weights that are the same on every backend."""
    layer, twin = _stored(make_layer(1000, 40, 17, G), dtype, seed=mix_seed(8, 1))
    nothing, x, update = Positives(torch.zeros(3).long(), torch.zeros(0).long()), torch.zeros(2, 40), SGD(2**-6, 0, 0.5)
    for step in (1, 2, 70_000):
        exact = twin.weight - 2**-6 * (0.5 * twin.weight)  # no rounding: 4 to 8 bits times 127 / 128
        backend.train_step(layer, Moments(), x, nothing, loss=Loss.BCE, update=update, step=step, scale=1.0)
        expected = round_stochastically(exact, dtype, layer.rounding_seed, step)
        assert torch.equal(layer.weight.float(), expected.float())  # zeros of either sign are equal
        twin.weight.copy_(layer.weight)


@FORMATS
@pytest.mark.parametrize("loss", list(Loss))
def test_results_do_not_depend_on_the_chunk(backend, make_layer, make_positives, loss, dtype):
    batch, update, results = (random_input(9, 30), make_positives(9, 203)), SGD(0.5), []
    for chunk_size in (1, 7, 64, 4096):
        layer, _ = _stored(make_layer(203, 30, 11, 3), dtype)
        backend.train_step(
            layer, Moments(), *batch, loss=loss, update=update, step=4, scale=1 / 9, chunk_size=chunk_size
        )
        results.append(_codes(layer.weight))
    for result in results[1:]:
        assert (result != results[0]).sum() <= 2


@FORMATS
@pytest.mark.parametrize("G", [1, 4])
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_rewiring_scores_and_zeroes_stored_weights(backend, make_layer, dtype, G, threshold):
    layer, twin = _stored(make_layer(45, 40, 9, G), dtype)
    before = layer.index.clone()
    twin = replace(twin, index=before.clone())
    moments, prune = zero_moments(AdamW(0.1), layer.weight, layer.bias), Prune(0.4, threshold)
    for moment in moments.weight:
        moment.fill_(1)
    replaced = backend.rewire(layer, moments, prune, 5)
    assert torch.equal(replaced, ReferenceBackend().rewire(twin, Moments(), prune, 5))
    assert replaced.any()
    assert torch.equal(layer.index, twin.index)
    assert torch.equal(layer.weight.float(), twin.weight)
    regrown = (layer.index != before).repeat_interleave(G, dim=0)[:45]
    for moment in moments.weight:
        assert torch.equal(moment == 0, regrown)


@FORMATS
def test_small_steps_are_not_lost(backend, make_layer, dtype):
    """Steps far below the spacing add up: rounding to the nearest would leave every weight where it was."""
    layer, _ = _stored(make_layer(3000, 8, 4), dtype)
    layer.weight.fill_(0.5)
    nothing, x, decay = Positives(torch.zeros(2).long(), torch.zeros(0).long()), torch.zeros(1, 8), SGD(0.001, 0, 1.0)
    for step in range(1, 101):
        backend.train_step(layer, Moments(), x, nothing, loss=Loss.BCE, update=decay, step=step, scale=1.0)
    expected = 0.5 * 0.999**100
    spread = layer.weight.float().std().item()
    assert layer.weight.float().mean().item() == pytest.approx(expected, abs=5 * spread / 12_000**0.5)
    assert spread > 0
