"""The training step of both families of kernels on small odd shapes, against the reference and float64 truth."""

from dataclasses import replace

import pytest
import torch

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, AdamW, Loss, SharedScores
from fanin.kernels.updates import zero_moments
from kernel_checks import assert_close, clone, densify, emphasised, random_input

# L, D, F, G, B: a label a set, small groups, groups in one tile, in several, and with batches of several tiles.
SHAPES = [(67, 33, 8, 1, 17), (70, 40, 12, 3, 5), (67, 48, 17, 32, 19), (90, 24, 5, 40, 9), (40, 30, 6, 16, 70)]
UPDATES = [SGD(0.3, weight_decay=0.1), SGD(0.2, momentum=0.9), AdamW(0.02, eps=1e-4, weight_decay=0.1)]
LOSSES = [Loss.BCE, Loss.SQUARED_HINGE]


def _step(backend, layer, x, positives, shared, loss, update, step=3):
    moments = zero_moments(update, layer.weight, layer.bias)
    for moment in moments.weight:
        moment.fill_(0.01)
    result = backend.train_step(
        layer, moments, x, positives, loss=loss, update=update, step=step, scale=1 / len(x), shared=shared
    )
    return result, layer, moments


def _case(make_layer, make_positives, shape, dense_inputs=None):
    L, D, F, G, B = shape
    layer = replace(make_layer(L, D, F, G, bias=L != 90), dense_inputs=dense_inputs)
    return layer, random_input(B, D), emphasised(make_positives(B, L), L), SharedScores(random_input(-(-L // 7), B), 7)


@pytest.mark.parametrize(
    ("shape", "loss", "update", "dense_inputs"),
    [(shape, LOSSES[i % 2], UPDATES[i % 3], [None, 11][i % 2]) for i, shape in enumerate(SHAPES)],
    ids=str,
)
def test_float32_step_is_that_of_the_reference(triton, make_layer, make_positives, shape, loss, update, dense_inputs):
    layer, x, positives, shared = _case(make_layer, make_positives, shape, dense_inputs)
    twin = clone(layer)
    own, layer, moments = _step(triton, layer, x, positives, shared, loss, update)
    truth, twin, expected = _step(ReferenceBackend(), twin, x, positives, shared, loss, update)
    assert own.loss == pytest.approx(truth.loss, rel=1e-6)
    assert_close(own.dx, truth.dx, 5e-6)
    assert_close(own.shared_grad, truth.shared_grad, 5e-6)
    assert_close(layer.weight, twin.weight, 5e-6)
    for one, other in zip(moments.weight + moments.bias, expected.weight + expected.bias, strict=True):
        assert_close(one, other, 5e-6)
    if layer.bias is not None:
        assert_close(layer.bias, twin.bias, 5e-6)


def _plain_bfloat16(layer, columns, x, positives, loss):
    """Logits, dx and the weights' gradient as plain torch computes them with everything in bfloat16."""
    dense = densify(layer, columns, torch.bfloat16)
    x = x.bfloat16()
    logits = x @ dense.T + layer.bias.bfloat16()
    target = torch.zeros(logits.shape)
    target[torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff()), positives.indices] = 1
    if loss is Loss.BCE:
        grad = (logits.float().sigmoid() - target) / len(x)
    else:
        sign = 2 * target - 1
        grad = -2 * sign * (1 - sign * logits.float()).clamp_min(0) / len(x)
    grad = grad.bfloat16()
    return {"logits": logits, "dx": grad @ dense, "weight": (grad.T @ x).gather(1, columns)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=["bf16", "fp8"])
@pytest.mark.parametrize(("shape", "loss"), [(SHAPES[0], LOSSES[0]), (SHAPES[2], LOSSES[1])], ids=str)
def test_error_with_low_formats_is_no_larger_than_that_of_plain_bfloat16(
    triton, make_layer, make_positives, columns_of, train_densely, shape, loss, dtype
):
    L, D, F, G, B = shape
    layer, positives, x = make_layer(L, D, F, G), make_positives(B, L), random_input(B, D)
    layer = replace(layer, weight=layer.weight.to(dtype))
    columns = columns_of(layer)
    wide = layer.weight.float()
    update = SGD(1.0, momentum=0.5)  # its first moment is the gradient itself
    truth = train_densely(wide, columns, layer.bias, D, [(x, positives)], loss, update)
    exact = {
        "logits": x.double() @ densify(layer, columns).T + layer.bias,
        "dx": truth.input_gradients[0],
        "weight": truth.moments[0][0],
    }
    plain = _plain_bfloat16(replace(layer, weight=wide), columns, x, positives, loss)
    moments = zero_moments(update, layer.weight, layer.bias)
    logits = triton.forward(layer, x)
    result = triton.train_step(layer, moments, x, positives, loss=loss, update=update, step=1, scale=1 / B)
    own = {"logits": logits, "dx": result.dx, "weight": moments.weight[0]}
    for name, expected in exact.items():
        allowed = (plain[name].double() - expected).abs().max()
        assert (own[name].double() - expected).abs().max() <= allowed, name
    assert result.loss == pytest.approx(truth.losses[0], rel=2e-3)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_gradients_for_autograd(triton, make_layer, shape):
    L, D, F, G, B = shape
    layer, x, grad = make_layer(L, D, F, G), random_input(B, D), random_input(B, L, seed=2)
    reference = ReferenceBackend()
    assert_close(triton.forward(layer, x), reference.forward(layer, x))
    assert_close(triton.grad_input(layer, grad), reference.grad_input(layer, grad))
    assert_close(triton.grad_weight(layer, grad, x), reference.grad_weight(layer, grad, x))


def test_wide_inputs_take_atomic_additions(triton, make_layer, make_positives):
    """Where a dense block of a chunk would be mostly empty; the results are those of the reference all the same."""
    layer, x, positives = make_layer(70, 70_001, 3), random_input(5, 70_001), make_positives(5, 70)
    twin, grad = clone(layer), random_input(5, 70, seed=2)
    assert_close(triton.grad_input(layer, grad), ReferenceBackend().grad_input(layer, grad))
    own, layer, _ = _step(triton, layer, x, positives, None, Loss.BCE, SGD(0.5))
    truth, twin, _ = _step(ReferenceBackend(), twin, x, positives, None, Loss.BCE, SGD(0.5))
    assert_close(own.dx, truth.dx, 5e-6)
    assert_close(layer.weight, twin.weight, 5e-6)
