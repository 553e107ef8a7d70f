"""The sparse layer with shared cluster weights and an internal order, against dense float64 training by autograd."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.spec import SGD, AdamW, Loss, Positives

L, D, F = 43, 12, 4
UPDATES = [SGD(0.05, weight_decay=0.1), SGD(0.02, 0.9, 0.1), AdamW(0.02, eps=1e-4, weight_decay=0.1)]
# group size, cluster size, inputs of the clusters, ordered
LAYERS = [
    (1, 5, None, False),
    (1, 5, 7, True),
    (8, 5, 7, True),
    (3, 16, None, True),
    (4, 1, 1, True),
    (1, 0, None, True),
    (16, 1000, 7, False),
]


def make(G=1, cluster_size=5, cluster_inputs=7, ordered=True, *, seed=0, **options):
    """A layer whose clusters' vectors are not zero, with a random order."""
    layer = SparseLinear(
        D,
        L,
        F,
        G,
        cluster_size=cluster_size,
        cluster_inputs=cluster_inputs if cluster_size else None,
        ordered=ordered,
        seed=seed,
        **options,
    )
    generator = torch.Generator().manual_seed(seed + 1)
    if layer.clusters is not None:
        with torch.no_grad():
            layer.clusters.weight.normal_(generator=generator)
    if layer.order is not None:
        layer.order.assign(torch.randperm(L, generator=generator))
    return layer


def outer_labels(layer):
    return list(range(L)) if layer.order is None else layer.order.outer.tolist()


def dense_logits(layer, x, weight, bias, vectors):
    """Logits (B, L) by label id, label by label, from tensors in place of the layer's own."""
    columns = [None] * L
    for place, label in enumerate(outer_labels(layer)):
        inputs = layer.index[place // layer.group_size].long()
        columns[label] = x[:, inputs] @ weight[place]
        if bias is not None:
            columns[label] = columns[label] + bias[place]
        if vectors is not None:
            columns[label] = columns[label] + x[:, : vectors.shape[1]] @ vectors[place // layer.clusters.cluster_size]
    return torch.stack(columns, dim=1)


def batch(make_positives, B=9, seed=0, dtype=torch.float32):
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(seed + 50)).to(dtype)
    return x, make_positives(B, L, seed=seed)


def targets(positives):
    block = torch.zeros(len(positives.indptr) - 1, L, dtype=torch.float64)
    block[torch.repeat_interleave(positives.indptr.diff()), positives.indices] = 1
    return block


def parts(layer):
    """The trained tensors, float64 copies."""
    vectors = None if layer.clusters is None else layer.clusters.weight
    tensors = (layer.weight, layer.bias, vectors)
    return [None if tensor is None else tensor.detach().double().clone() for tensor in tensors]


def train_by_autograd(layer, batches, loss, update, factor):
    """Losses, input gradients, and the parts after training them with torch.optim."""
    tensors = [None if part is None else part.requires_grad_() for part in parts(layer)]
    decays = (update.weight_decay, 0.0, update.weight_decay)
    groups = [
        {"params": [tensor], "weight_decay": decay}
        for tensor, decay in zip(tensors, decays, strict=True)
        if tensor is not None
    ]
    if isinstance(update, SGD):
        optimizer = torch.optim.SGD(groups, lr=update.learning_rate, momentum=update.momentum)
    else:
        optimizer = torch.optim.AdamW(
            groups, lr=update.learning_rate, betas=(update.beta1, update.beta2), eps=update.eps
        )
    losses, gradients = [], []
    for x, positives in batches:
        wide = x.double().requires_grad_()
        logits, target = dense_logits(layer, wide, *tensors), targets(positives)
        if loss is Loss.BCE:
            value = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        else:
            value = (1 - (2 * target - 1) * logits).relu().square().sum()
        value = value * factor / len(x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        gradients.append(wide.grad)
    return losses, gradients, tensors


@pytest.mark.parametrize("settings", LAYERS, ids=str)
@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_train_step_is_dense_training(backend_name, make_positives, settings, update, dtype):
    if dtype is torch.float64 and backend_name == "cpu":
        pytest.skip("the compiled core computes in float32")
    layer = make(*settings, dtype=dtype, backend=backend_name)
    batches = [batch(make_positives, seed=seed, dtype=dtype) for seed in range(3)]
    loss = Loss.BCE if settings[0] == 1 else Loss.SQUARED_HINGE
    losses, gradients, tensors = train_by_autograd(layer, batches, loss, update, 0.6)
    tolerance = {"rtol": 1e-5, "atol": 3e-5} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    for step, (x, positives) in enumerate(batches):
        value, dx = layer.train_step(x, positives, loss, update, weight=0.6)
        assert value == pytest.approx(losses[step], rel=1e-5 if dtype is torch.float32 else 1e-12)
        torch.testing.assert_close(dx.double(), gradients[step], **tolerance)
    for mine, truth in zip(parts(layer), tensors, strict=True):
        if truth is not None:
            torch.testing.assert_close(mine, truth.detach(), **tolerance)


@pytest.mark.parametrize("settings", LAYERS, ids=str)
def test_forward_and_its_gradients(backend_name, settings):
    layer = make(*settings, backend=backend_name)
    x = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(3)).requires_grad_()
    tensors = [None if part is None else part.requires_grad_() for part in parts(layer)]
    wide = x.detach().double().flatten(0, 1).requires_grad_()
    truth = dense_logits(layer, wide, *tensors)
    logits = layer(x)
    torch.testing.assert_close(logits.flatten(0, 1).double(), truth, rtol=1e-5, atol=1e-5)
    logits.square().sum().backward()
    truth.square().sum().backward()
    torch.testing.assert_close(x.grad.flatten(0, 1).double(), wide.grad, rtol=1e-4, atol=1e-4)
    own = [layer.weight, layer.bias, None if layer.clusters is None else layer.clusters.weight]
    for mine, tensor in zip(own, tensors, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine.grad.double(), tensor.grad, rtol=1e-4, atol=1e-4)
    assert layer(torch.empty(0, D)).shape == (0, L)


@given(st.data())
def test_the_step_s_gradient_is_that_of_forward_in_any_shape(data):
    labels, inputs, B = (data.draw(st.integers(1, n), name) for n, name in ((60, "L"), (12, "D"), (20, "B")))
    layer = SparseLinear(
        inputs,
        labels,
        data.draw(st.integers(1, inputs), "F"),
        data.draw(st.integers(1, labels + 1), "G"),
        cluster_size=data.draw(st.integers(0, labels + 1), "cluster size"),
        cluster_inputs=data.draw(st.integers(1, inputs), "cluster inputs"),
        ordered=data.draw(st.booleans(), "ordered"),
        dtype=torch.float64,
    )
    generator = torch.Generator().manual_seed(labels)
    if layer.clusters is not None:
        nn.init.normal_(layer.clusters.weight, generator=generator)
    if layer.order is not None:
        layer.order.assign(torch.randperm(labels, generator=generator))
    x = torch.randn(B, inputs, dtype=torch.float64, generator=generator).requires_grad_()
    label = torch.randint(labels, (B,), generator=generator)
    target = functional.one_hot(label, labels).double()
    loss = functional.binary_cross_entropy_with_logits(layer(x), target, reduction="sum") / B
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    value, dx = layer.train_step(x, Positives(torch.arange(B + 1), label), Loss.BCE, SGD(0.5))
    assert value == pytest.approx(loss.item(), rel=1e-9)
    torch.testing.assert_close(dx, gradients[0])
    for then, now, gradient in zip(before, layer.parameters(), gradients[1:], strict=True):
        torch.testing.assert_close(now.detach(), then - 0.5 * gradient)


@pytest.mark.parametrize("settings", LAYERS, ids=str)
def test_topk_speaks_of_label_ids(backend_name, make_positives, settings):
    layer, (x, positives) = make(*settings, backend=backend_name), batch(make_positives)
    logits = layer(x).detach()
    scores, labels = layer.topk(x, 6)
    assert labels.dtype == torch.int64
    torch.testing.assert_close(scores, logits.topk(6).values)
    torch.testing.assert_close(logits.gather(1, labels), scores)
    scores, labels = layer.topk(x, L, positives)
    for row in range(len(x)):
        own = set(positives.indices[positives.indptr[row] : positives.indptr[row + 1]].tolist())
        found = [label for label in labels[row].tolist() if label >= 0]
        assert sorted(found) == sorted(set(range(L)) - own)
        assert labels[row, len(found) :].tolist() == [-1] * len(own)


@pytest.mark.parametrize("G", [1, 8])
def test_biases_are_set_by_label_id(G):
    layer = make(G, initial_scale=0.0)
    with torch.no_grad():
        layer.clusters.weight.zero_()
    layer.set_bias(torch.arange(L, dtype=torch.float64))
    assert layer(torch.ones(1, D))[0].tolist() == list(range(L))
    with pytest.raises(ConfigError, match="no bias"):
        make(G, bias=False).set_bias(torch.zeros(L))


@pytest.mark.parametrize("settings", LAYERS, ids=str)
@pytest.mark.parametrize("meta", [False, True])
def test_settings_and_state_build_the_layer_again(settings, meta):
    layer = make(*settings)
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    with torch.device("meta" if meta else "cpu"):
        twin = SparseLinear(**layer.settings())
    assert twin.settings() == layer.settings()
    assert twin.nbytes() == layer.nbytes()
    twin.load_state_dict(state, assign=meta)
    x = torch.randn(3, D)
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.topk(x, 5)[1], layer.topk(x, 5)[1])
    assert all(tensor.device.type == "cpu" for tensor in (*twin.parameters(), *twin.buffers()))


def test_memory_for_a_layer_that_had_none():
    """As nn.Module promises: to_empty, then load_state_dict without assign."""
    layer = make()
    twin = SparseLinear(**layer.settings(), device="meta").to_empty(device="cpu")
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(torch.ones(2, D)), layer(torch.ones(2, D)))


def test_bytes_are_those_of_the_state():
    layer = make(8, 5, 7)
    stored = {name: tensor.numel() * tensor.element_size() for name, tensor in layer.state_dict().items()}
    assert layer.nbytes() == {
        "weight": stored["weight"],
        "index": stored["index"],
        "bias": stored["bias"],
        "clusters": stored["clusters.weight"],
        "order": stored["order.outer"],
    }
    assert stored["clusters.weight"] == 9 * 7 * 4
    assert stored["order.outer"] == L * 4


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_training_continues_bit_for_bit_from_saved_state(make_positives, update):
    batches = [batch(make_positives, seed=seed) for seed in range(4)]
    layer = make(8, seed=3)
    for x, positives in batches[:2]:
        layer.train_step(x, positives, Loss.BCE, update)
    other = make(8, seed=4)
    other.load_state_dict(layer.state_dict())
    other.load_optimizer_state(layer.optimizer_state(), layer.steps)
    for x, positives in batches[2:]:
        value, dx = layer.train_step(x, positives, Loss.BCE, update)
        value_there, dx_there = other.train_step(x, positives, Loss.BCE, update)
        assert value == value_there
        assert torch.equal(dx, dx_there)
    assert all(map(torch.equal, layer.state_dict().values(), other.state_dict().values()))
    assert layer.optimizer_state().keys() == other.optimizer_state().keys()
    assert all(map(torch.equal, layer.optimizer_state().values(), other.optimizer_state().values()))


def test_a_foreign_state_of_the_clusters_is_refused_and_nothing_changes(make_positives):
    layer = make()
    layer.train_step(*batch(make_positives), Loss.BCE, AdamW(0.1))
    good = layer.optimizer_state()
    assert {"clusters.0", "clusters.1"} < good.keys()
    without = {name: tensor for name, tensor in good.items() if name != "clusters.1"}
    for bad in (without, {**good, "clusters.1": torch.ones(2)}, {**good, "clusters.2": good["clusters.1"]}):
        other = make()
        with pytest.raises(CheckpointError, match=r"optimizer state 'clusters\.[12]'"):
            other.load_optimizer_state(bad, 1)
        assert (other.optimizer_state(), other.steps) == ({}, 0)
    with pytest.raises(CheckpointError, match="optimizer state"):
        make(cluster_size=0).load_optimizer_state(good, 1)


def test_state_follows_a_move_to_another_dtype(make_positives):
    layer = make()
    layer.train_step(*batch(make_positives), Loss.BCE, AdamW(0.1))
    layer.double()
    assert {tensor.dtype for tensor in layer.optimizer_state().values()} == {torch.float64}
    layer.train_step(*batch(make_positives, dtype=torch.float64), Loss.BCE, AdamW(0.1))
    assert layer.steps == 2


def test_a_deep_copy_trains_alike(make_positives):
    layer = make(8)
    layer.train_step(*batch(make_positives), Loss.BCE, AdamW(0.1))
    twin, following = copy.deepcopy(layer), batch(make_positives, seed=1)
    assert layer.train_step(*following, Loss.BCE, AdamW(0.1))[0] == twin.train_step(*following, Loss.BCE, AdamW(0.1))[0]
    assert all(map(torch.equal, layer.state_dict().values(), twin.state_dict().values()))


def test_clusters_start_at_nothing():
    plain, clustered = SparseLinear(D, L, F, seed=2), SparseLinear(D, L, F, seed=2, cluster_size=4)
    x = torch.randn(5, D)
    assert torch.equal(plain(x), clustered(x))


@pytest.mark.parametrize("chunk_bytes", [1, 100])
def test_clusters_in_chunks(make_positives, monkeypatch, chunk_bytes):
    from fanin.classifier import cluster_weights

    layer, twin = make(), make()
    layer.train_step(*batch(make_positives), Loss.BCE, AdamW(0.1))
    monkeypatch.setattr(cluster_weights, "_CHUNK_BYTES", chunk_bytes)
    twin.train_step(*batch(make_positives), Loss.BCE, AdamW(0.1))
    torch.testing.assert_close(twin.clusters.weight, layer.clusters.weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cluster_size": -1}, "cluster_size=-1 must be at least 1"),
        ({"cluster_size": 4, "cluster_inputs": 0}, rf"cluster_inputs=0 must lie in 1\.\.{D}"),
        ({"cluster_size": 4, "cluster_inputs": D + 1}, rf"cluster_inputs={D + 1} must lie in 1\.\.{D}"),
    ],
)
def test_impossible_clusters_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        SparseLinear(D, L, F, **options)
