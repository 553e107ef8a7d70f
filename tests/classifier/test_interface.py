"""What every classifier does alike: the fused step against dense float64 training, top-k, start and size."""

import math

import pytest
import torch

from classifier_kinds import UPDATES, D, L, make_batches, same
from fanin.classifier.dense import DenseLinear
from fanin.classifier.masked import MaskedLinear
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, AdamW, Loss, Positives
from kernel_checks import emphasised


def _columns(layer):
    """The input of every weight, (L, F)."""
    if isinstance(layer, MaskedLinear):
        return layer.mask.nonzero()[:, 1].view(L, layer.fan_in)
    if isinstance(layer, DenseLinear):
        return torch.arange(D).expand(L, D)
    return layer.index.long().repeat_interleave(layer.group_size, dim=0)[:L]


def _used(layer, tensor):
    """Weights, or their state, at the places of connections, (L, F)."""
    return tensor.gather(1, _columns(layer)) if isinstance(layer, MaskedLinear) else tensor


@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_train_step_is_dense_training(make_plain, make_positives, train_densely, loss, update, dtype):
    layer, batches = make_plain(dtype=dtype), make_batches(make_positives, 4, dtype=dtype)
    weight = _used(layer, layer.weight)
    truth = train_densely(weight, _columns(layer), layer.bias, D, batches, loss, update, factor=0.6)
    tolerance = {"rtol": 1e-5, "atol": 2e-5} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    for step, (x, positives) in enumerate(batches):
        value, dx = layer.train_step(x, positives, loss, update, weight=0.6)
        assert value == pytest.approx(truth.losses[step], rel=1e-5 if dtype is torch.float32 else 1e-12)
        torch.testing.assert_close(dx.double(), truth.input_gradients[step], **tolerance)
        assert layer.steps == step + 1
    torch.testing.assert_close(_used(layer, layer.weight).detach().double(), truth.weight, **tolerance)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.detach().double(), truth.bias, **tolerance)
    state = [
        _used(layer, tensor).double() if name.startswith("weight") else tensor.double()
        for name, tensor in layer.optimizer_state().items()
    ]
    expected = [tensor for moments in truth.moments for tensor in moments]
    assert len(state) == len(expected)
    for actual, moment in zip(state, expected, strict=True):
        torch.testing.assert_close(actual, moment, **tolerance)


def test_the_fused_step_leaves_no_trace_in_autograd(make, make_positives):
    layer, (x, positives) = make(), make_batches(make_positives, 1)[0]
    x.requires_grad_()
    _, dx = layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    assert not dx.requires_grad
    assert all(parameter.grad is None and parameter.is_leaf for parameter in layer.parameters())
    assert x.grad is None


def test_the_gradient_of_the_fused_step_trains_what_lies_below(make, make_positives):
    """x.backward(dx) must give the encoder the gradient that autograd through forward would give it."""
    layer, (x, positives) = make(dtype=torch.float64), make_batches(make_positives, 1, dtype=torch.float64)[0]
    encoder = torch.nn.Linear(D, D).double()
    target = torch.zeros(len(x), L, dtype=torch.float64)
    target[torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff()), positives.indices] = 1
    loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(encoder(x)), target, reduction="sum") / len(x)
    (expected,) = torch.autograd.grad(loss, [encoder.weight])
    hidden = encoder(x)
    value, dx = layer.train_step(hidden, positives, Loss.BCE, SGD(0.1))
    hidden.backward(dx)
    assert value == pytest.approx(loss.item(), rel=1e-9)
    torch.testing.assert_close(encoder.weight.grad, expected)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("parts", [("weights",), ("margins",), ("weights", "margins")], ids=str)
def test_weights_and_margins_of_positives(make, make_positives, loss, parts):
    """A positive of weight w and margin m adds w loss(z - m); a weight of 1 and a margin of 0 change nothing."""
    layer, (x, positives) = make(dtype=torch.float64), make_batches(make_positives, 1, dtype=torch.float64)[0]
    positives = emphasised(positives, L, "weights" in parts, "margins" in parts)
    rows = torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff())
    target, weight, margin = torch.zeros(3, len(x), L, dtype=torch.float64)
    target[rows, positives.indices] = 1
    weight[rows, positives.indices] = 1.0 if positives.weights is None else positives.weights.double()
    margin[rows, positives.indices] = 0.0 if positives.margins is None else positives.margins.double()
    x.requires_grad_()
    z = layer(x)
    loss_of = torch.nn.functional.softplus if loss is Loss.BCE else (lambda t: (1 + t).clamp_min(0) ** 2)
    values = torch.where(target == 1, weight * loss_of(margin - z), loss_of(z))
    expected = 0.7 * values.sum() / len(x)
    (expected_dx,) = torch.autograd.grad(expected, [x])
    value, dx = layer.train_step(x, positives, loss, SGD(0.1), weight=0.7)
    assert value == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(dx, expected_dx)


def test_strided_arrays_are_as_good(make, make_positives):
    (x, positives), update = make_batches(make_positives, 1)[0], SGD(0.1)
    strided = Positives(*(array.repeat_interleave(2)[::2] for array in positives[:2]))
    wide = x.repeat_interleave(2, dim=1)[:, ::2]
    value, dx = make().train_step(x, positives, Loss.BCE, update)
    strided_value, strided_dx = make().train_step(wide, strided, Loss.BCE, update)
    assert value == strided_value
    assert torch.equal(dx, strided_dx)
    assert torch.equal(make().topk(x, 3, positives)[1], make().topk(wide, 3, strided)[1])


def test_topk_is_that_of_forward(make, make_positives):
    layer, (x, positives) = make(), make_batches(make_positives, 1)[0]
    logits = layer(x).detach()
    scores, labels = layer.topk(x, 4)
    torch.testing.assert_close(scores, logits.topk(4).values)
    torch.testing.assert_close(logits.gather(1, labels), scores)
    assert not scores.requires_grad
    scores, labels = layer.topk(x, L + 100, positives)
    assert scores.shape == labels.shape == (9, L)
    for row in range(9):
        own = set(positives.indices[positives.indptr[row] : positives.indptr[row + 1]].tolist())
        assert set(labels[row].tolist()) - {-1} == set(range(L)) - own
        assert (labels[row] == -1).sum() == (scores[row] == -math.inf).sum() == len(own)


def test_topk_of_no_rows(make):
    assert [part.shape for part in make().topk(torch.empty(0, D), 3)] == [(0, 3), (0, 3)]


def test_nbytes_counts_what_prediction_needs(make):
    layer = make()
    if isinstance(layer, MaskedLinear):
        pytest.skip("it counts the bytes of compressed rows, see test_masked.py")
    stored = {name: tensor.numel() * tensor.element_size() for name, tensor in layer.state_dict().items()}
    # The sparse layer's clusters and order are called by their part alone.
    assert {name.replace("clusters.weight", "clusters"): size for name, size in stored.items()} == layer.nbytes()


def test_the_start_is_uniform_within_the_scale(make_plain):
    layer = make_plain(seed=9, initial_scale=0.5)
    bound = 0.5 / _columns(layer).shape[1] ** 0.5
    assert 0.9 * bound < layer.weight.detach().abs().max().item() <= bound * (1 + 1e-6)
    assert not make_plain(initial_scale=0.0).weight.any()


def test_the_start_is_reproducible(make):
    layer = make(seed=9, initial_scale=0.5)
    assert same(make(seed=9, initial_scale=0.5).state_dict(), layer.state_dict())
    assert not same(make(seed=10, initial_scale=0.5).state_dict(), layer.state_dict())
    assert not make(initial_scale=0.0)(torch.ones(1, D)).any()
    make(seed=-1)


def test_biases_are_set_by_label_id(make):
    layer, bias = make(initial_scale=0.0), torch.arange(float(L))
    if "bias=False" in repr(layer):
        with pytest.raises(ConfigError, match="no bias"):
            layer.set_bias(bias)
        return
    layer.set_bias(bias)
    assert torch.equal(layer(torch.zeros(1, D))[0], bias)


def test_active_columns_are_as_good_as_the_whole_x(make, make_positives):
    positives, update = make_positives(20, L), AdamW(0.02, eps=1e-4, weight_decay=0.1)
    columns = torch.tensor([0, 1, 2, 5, 9, 13])
    active = ActiveInputs(torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), columns, D)
    one, other = make(), make()
    for _ in range(3):
        value, dx = one.train_step(active, positives, Loss.BCE, update)
        expected, whole = other.train_step(active.dense(), positives, Loss.BCE, update)
        assert value == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(dx, whole[:, columns], rtol=1e-4, atol=1e-6)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.topk(active, 5)[0], one.topk(active.dense(), 5)[0])
