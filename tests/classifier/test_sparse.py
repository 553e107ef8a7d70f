"""The sparse layer as a drop-in for torch.nn.Linear, and its index sets in a state dict."""

import copy
import io

import pytest
import torch
from torch import nn

from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError


def _as_linear(layer):
    """A torch.nn.Linear with the same function."""
    columns = layer.index.long().repeat_interleave(layer.group_size, dim=0)[: layer.out_features]
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=layer.weight.dtype)
    with torch.no_grad():
        linear.weight.zero_().scatter_(1, columns, layer.weight)
        if layer.bias is not None:
            linear.bias.copy_(layer.bias)
    return linear, columns


@pytest.mark.parametrize("G", [1, 3, 16])
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(G, bias):
    layer = SparseLinear(6, 7, 3, G, bias=bias, dtype=torch.float64)
    x = torch.randn(2, 2, 6, dtype=torch.float64, requires_grad=True)

    def call(x, weight, bias=None):
        parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return torch.func.functional_call(layer, parameters, (x,))

    parameters = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(call, (x, *parameters))


@pytest.mark.parametrize("shape", [(9,), (5, 9), (2, 3, 9), (0, 9), (2, 0, 9)], ids=str)
@pytest.mark.parametrize("G", [1, 4, 32])
def test_same_function_and_gradients_as_nn_linear(backend_name, shape, G):
    layer = SparseLinear(9, 50, 4, G, backend=backend_name)
    linear, columns = _as_linear(layer)
    x, twin = (torch.linspace(-2, 2, 9).expand(shape).clone().requires_grad_() for _ in range(2))
    logits, expected = layer(x), linear(twin)
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(layer.weight.grad, linear.weight.grad.gather(1, columns))
    torch.testing.assert_close(layer.bias.grad, linear.bias.grad)


def test_strided_inputs_and_gradients(backend_name):
    layer = SparseLinear(9, 10, 4, backend=backend_name)
    linear, _ = _as_linear(layer)
    x = torch.randn(9, 6).T.requires_grad_()
    torch.testing.assert_close(layer(x), linear(x))
    (mine,) = torch.autograd.grad(layer(x).T.sum(), x)
    (theirs,) = torch.autograd.grad(linear(x).T.sum(), x)
    torch.testing.assert_close(mine, theirs)


def test_frozen_parts_get_no_gradient(backend_name):
    layer = SparseLinear(9, 10, 4, backend=backend_name)
    layer.weight.requires_grad_(False)
    layer(torch.ones(1, 9)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_a_second_derivative_is_refused_not_wrong():
    layer = SparseLinear(4, 4, 2, dtype=torch.float64)
    x = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_small_model_learns_with_torch_optim(backend_name):
    torch.manual_seed(0)
    x = torch.randn(200, 8)
    y = (x @ torch.randn(8, 3)).argmax(1)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), SparseLinear(64, 3, 24, backend=backend_name))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert (model(x).argmax(1) == y).float().mean() > 0.97


@pytest.mark.parametrize(("D", "index_dtype"), [(65_536, torch.uint16), (65_537, torch.int32)])
def test_state_dict_round_trip(D, index_dtype):
    layer, other = SparseLinear(D, 30, 4, 3, seed=1), SparseLinear(D, 30, 4, 3, seed=2)
    assert layer.index.dtype == index_dtype
    assert not torch.equal(layer.index, other.index)
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert list(layer.state_dict()) == ["weight", "bias", "index"]
    assert all(map(torch.equal, layer.state_dict().values(), other.state_dict().values()))


def test_a_meta_layer_takes_a_state(make_layer):
    layer = SparseLinear(9, 20, 4, seed=5)
    empty = SparseLinear(9, 20, 4, device="meta")
    assert empty.nbytes() == layer.nbytes()
    empty.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(empty(torch.ones(1, 9)), layer(torch.ones(1, 9)))


def _with(index, place, value):
    wide = index.to(torch.int64)
    wide[place] = value
    return wide.to(index.dtype)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda index: _with(index, (17, 2), 9), r"index set 17 names an input outside 0\.\.8"),
        (lambda index: _with(index, (17, 2), int(index[17, 0])), "index set 17 names an input twice"),
        (lambda index: index.to(torch.int64), r"index sets are torch.int64; for 9 inputs they must be torch.uint16"),
        (lambda index: index[:-1], r"index sets have shape \(19, 4\); this layer needs \(20, 4\)"),
        (lambda index: index.flatten(), "index sets have shape"),
    ],
)
def test_mistake_11_index_sets_that_would_break_a_kernel_are_refused(spoil, words):
    model = nn.Sequential(SparseLinear(9, 20, 4))
    state = copy.deepcopy(model.state_dict())
    state["0.index"] = spoil(state["0.index"])
    before = model[0].index.clone()
    with pytest.raises(CheckpointError, match=words):
        model.load_state_dict(state)
    assert torch.equal(model[0].index, before)


def test_a_negative_index_is_refused():
    layer = SparseLinear(70_000, 5, 3)
    state = copy.deepcopy(layer.state_dict())
    state["index"][3, 1] = -1
    with pytest.raises(CheckpointError, match=r"index set 3 names an input outside 0\.\.69999"):
        layer.load_state_dict(state)


@pytest.mark.parametrize(
    ("fan_in", "group_size", "words"),
    [
        (17, 1, "fan_in=17 must lie between 1 and the number of inputs, 16"),
        (0, 1, "fan_in=0 must lie between 1 and the number of inputs, 16"),
        (4, 0, "group_size=0 must be at least 1"),
    ],
)
def test_impossible_shapes_are_refused(fan_in, group_size, words):
    with pytest.raises(ConfigError, match=words):
        SparseLinear(16, 8, fan_in, group_size)


def test_mistake_02_index_sets_are_drawn_without_replacement():
    index = SparseLinear(768, 500, 128).index.to(torch.int64).sort(dim=1).values
    assert (index.diff(dim=1) > 0).all()


def test_a_seed_means_the_same_layer_on_every_backend(compiled_core):
    layers = [SparseLinear(100, 40, 7, seed=6, backend=name) for name in ("reference", "cpu")]
    assert torch.equal(layers[0].index, layers[1].index)
    assert torch.equal(layers[0].weight, layers[1].weight)
