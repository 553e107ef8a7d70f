"""The head/tail split: two layers that everyone else sees as one."""

import math

import pytest
import torch
from torch.nn import functional

from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, AdamW, Loss, Positives, Prune

L, D, H = 60, 14, 9
ORDER = torch.randperm(L, generator=torch.Generator().manual_seed(3))
OPTIONS = {
    "plain": {},
    "grouped": {"group_size": 4},
    "clusters": {"cluster_size": 8, "group_size": 2},
    "lexical": {"cluster_size": 8, "head_inputs": 10, "cluster_inputs": 10},
}


@pytest.fixture(params=OPTIONS)
def make(request):
    """Builds a split layer whose clusters' vectors are not zero."""

    def build(dtype=torch.float64, **options):
        layer = HeadTailLinear(D, L, 5, head_labels=H, dtype=dtype, **OPTIONS[request.param], **options)
        layer.order.assign(ORDER)
        if layer.tail.clusters is not None:
            torch.nn.init.normal_(layer.tail.clusters.weight, generator=torch.Generator().manual_seed(4))
        return layer

    return build


def _dense(layer):
    """The whole layer as a dense matrix (L, D) by label id, out of its parts by hand."""
    tail, rows = layer.tail, torch.zeros(L, D, dtype=layer.dtype)
    for place in range(L):
        label = int(layer.order.outer[place])
        if place < H:
            rows[label, : layer.head.in_features] = layer.head.weight[place].detach()
            continue
        n = place - H
        rows[label, tail.index[n // tail.group_size].long()] = tail.weight[n].detach()
        if tail.clusters is not None:
            vector = tail.clusters.weight[n // tail.clusters.cluster_size].detach()
            rows[label, : len(vector)] += vector
    bias = torch.zeros(L, dtype=layer.dtype)
    bias[layer.order.outer.long()] = torch.cat([layer.head.bias, tail.bias]).detach()
    return rows, bias


def _inputs(B, seed=0, dtype=torch.float64):
    return torch.randn(B, D, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_forward_is_that_of_the_dense_matrix(make):
    layer, x = make(), _inputs(6)
    weight, bias = _dense(layer)
    torch.testing.assert_close(layer(x).detach(), functional.linear(x, weight, bias))
    assert layer(x.view(2, 3, D)).shape == (2, 3, L)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("update", [SGD(0.05), SGD(0.02, 0.9), AdamW(0.02, eps=1e-4)], ids=str)
def test_steps_are_those_of_autograd_through_forward(make, make_positives, loss, update):
    layer, twin = make(), make()
    if isinstance(update, SGD):
        optimizer = torch.optim.SGD(twin.parameters(), update.learning_rate, update.momentum)
    else:
        optimizer = torch.optim.AdamW(twin.parameters(), update.learning_rate, eps=update.eps, weight_decay=0)
    for step in range(4):
        x, positives = _inputs(7, step).requires_grad_(), make_positives(7, L, seed=step)
        value, dx = layer.train_step(x, positives, loss, update, weight=0.7)
        target = torch.zeros(7, L, dtype=torch.float64)
        target[torch.repeat_interleave(torch.arange(7), positives.indptr.diff()), positives.indices] = 1
        logits = twin(x)
        if loss is Loss.BCE:
            expected = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        else:
            expected = functional.relu(1 - (2 * target - 1) * logits).square().sum()
        expected = 0.7 * expected / 7
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert value == pytest.approx(expected.item(), rel=1e-12)
        torch.testing.assert_close(dx, x.grad)
    for (name, mine), theirs in zip(layer.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.mark.parametrize("k", [1, 4, H + 3, L])
def test_topk_merges_both_parts(make, make_positives, k):
    layer, x, exclude = make(dtype=torch.float32), _inputs(9, dtype=torch.float32), make_positives(9, L)
    logits = layer(x).detach()
    for row in range(9):
        logits[row, exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]] = -math.inf
    scores, labels = layer.topk(x, k, exclude)
    expected = logits.topk(k)
    torch.testing.assert_close(scores, expected.values)
    torch.testing.assert_close(logits.gather(1, labels.clamp_min(0)).masked_fill(labels < 0, -math.inf), scores)
    assert ((labels == -1) == (scores == -math.inf)).all()


def test_equal_scores_are_in_the_order_of_labels_across_head_and_tail():
    layer = HeadTailLinear(D, L, 5, head_labels=H, initial_scale=0.0)
    head = torch.arange(3, 3 + H)  # not the first labels
    rest = torch.tensor([label for label in range(L) if label not in head.tolist()])
    layer.order.assign(torch.cat([head, rest]))
    exclude = Positives(torch.tensor([0, 2]), torch.tensor([4, 0]))
    assert layer.topk(torch.ones(1, D), 6)[1].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert layer.topk(torch.ones(1, D), 6, exclude)[1].tolist() == [[1, 2, 3, 5, 6, 7]]
    assert layer.topk(torch.ones(1, D), L)[1].tolist() == [list(range(L))]


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12], [3, 11, 13], [12], [1, 2]])
def test_the_head_reads_the_learned_features_of_active_inputs(columns, make_positives):
    def build():
        torch.manual_seed(0)
        return HeadTailLinear(D, L, 5, head_labels=H, head_inputs=10, cluster_size=8, cluster_inputs=10)

    columns = torch.tensor(columns)
    active = ActiveInputs(torch.randn(20, len(columns), generator=torch.Generator().manual_seed(1)), columns, D)
    one, other, positives = build(), build(), make_positives(20, L)
    value, dx = one.train_step(active, positives, Loss.BCE, SGD(0.1))
    expected, whole = other.train_step(active.dense(), positives, Loss.BCE, SGD(0.1))
    assert value == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(dx, whole[:, columns])
    torch.testing.assert_close(one.head.weight, other.head.weight)
    torch.testing.assert_close(one.topk(active, 3)[0], one.topk(active.dense(), 3)[0])


def test_the_sparse_part_is_the_tail_with_its_labels():
    layer = HeadTailLinear(D, L, 5, 4, head_labels=H)
    layer.order.assign(ORDER)
    part = layer.sparse_part()
    assert part.layer is layer.tail
    assert torch.equal(part.labels, ORDER[H:])
    head = layer.head.weight.detach().clone()
    assert part.layer.rewire(Prune(0.4), 1).tolist() == [2] * len(layer.tail.index)
    assert torch.equal(layer.head.weight, head)


def test_settings_and_state_build_the_same_layer(make):
    layer, x = make(dtype=torch.float32), _inputs(3, dtype=torch.float32)
    with torch.device("meta"):
        twin = HeadTailLinear(**layer.settings())
    twin.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.topk(x, 5)[1], layer.topk(x, 5)[1])
    spoilt = layer.state_dict() | {"order.outer": torch.zeros(L, dtype=torch.int32)}
    with pytest.raises(CheckpointError, match=r"order\.outer"):
        twin.load_state_dict(spoilt)


def test_sizes():
    layer = HeadTailLinear(D, L, 5, head_labels=H, head_inputs=10)
    assert layer.connections == H * 10 + (L - H) * 5
    assert sum(layer.nbytes().values()) == 4 * (H * 10 + (L - H) * 5 + 2 * L) + 2 * (L - H) * 5
    whole = SparseLinear(D, L, 5)
    assert layer.tail.nbytes()["weight"] == whole.nbytes()["weight"] * (L - H) // L


@pytest.mark.parametrize("head_labels", [0, L, L + 1, -1])
def test_a_head_or_tail_of_nothing_is_refused(head_labels):
    with pytest.raises(ConfigError, match=f"head_labels={head_labels} must lie between 1 and {L - 1}"):
        HeadTailLinear(D, L, 5, head_labels=head_labels)


@pytest.mark.parametrize("head_inputs", [0, D + 1])
def test_impossible_head_inputs_are_refused(head_inputs):
    with pytest.raises(ConfigError, match=f"head_inputs={head_inputs} must lie in 1..{D}"):
        HeadTailLinear(D, L, 5, head_labels=H, head_inputs=head_inputs)
