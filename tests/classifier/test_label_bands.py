"""Classifiers of several layers that everyone else sees as one: the head/tail split, and bands with a fan-in each."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fanin.classifier.banded import BandedLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, AdamW, Loss, Positives, Prune

L, D, H = 60, 14, 9
ORDER = torch.randperm(L, generator=torch.Generator().manual_seed(3))
BANDS = [(1, D), (H, 9), (1, 1), (L - H - 2, 5)]


def head_tail(**options):
    return HeadTailLinear(D, L, 5, head_labels=H, **options)


def banded(**options):
    return BandedLinear(D, L, BANDS, **options)


LAYERS = {
    "head/tail": (head_tail, {}),
    "head/tail, grouped": (head_tail, {"group_size": 4}),
    "head/tail, clusters": (head_tail, {"cluster_size": 8, "group_size": 2}),
    "head/tail, lexical": (head_tail, {"cluster_size": 8, "head_inputs": 10, "cluster_inputs": 10}),
    "banded": (banded, {}),
    "banded, grouped": (banded, {"group_size": 4}),
    "banded, clusters": (banded, {"cluster_size": 8, "group_size": 3, "cluster_inputs": 10}),
}


@pytest.fixture(params=LAYERS)
def make(request):
    """Builds a layer whose clusters' vectors are not zero."""
    kind, settings = LAYERS[request.param]

    def build(dtype=torch.float64, **options):
        layer = kind(dtype=dtype, **settings, **options)
        layer.order.assign(ORDER)
        for band in layer.bands:
            if getattr(band, "clusters", None) is not None:
                torch.nn.init.normal_(band.clusters.weight, generator=torch.Generator().manual_seed(4))
        return layer

    return build


def dense_rows(band):
    """A band's weights as a dense matrix, by place, out of its tensors by hand."""
    rows = torch.zeros(band.out_features, D, dtype=band.dtype)
    for place, row in enumerate(rows):
        if not isinstance(band, SparseLinear):
            row[: band.in_features] = band.weight[place].detach()
            continue
        row[band.index[place // band.group_size].long()] = band.weight[place].detach()
        if band.clusters is not None:
            vector = band.clusters.weight[place // band.clusters.cluster_size].detach()
            row[: len(vector)] += vector
    return rows


def dense(layer):
    """The whole layer as a dense matrix (L, D) by label id, and its biases."""
    weight, bias = torch.zeros(L, D, dtype=layer.dtype), torch.zeros(L, dtype=layer.dtype)
    labels = layer.order.outer.long()
    weight[labels] = torch.cat([dense_rows(band) for band in layer.bands])
    bias[labels] = torch.cat([band.bias for band in layer.bands]).detach()
    return weight, bias


def inputs(B, seed=0, dtype=torch.float64):
    return torch.randn(B, D, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_forward_is_that_of_the_dense_matrix(make):
    layer, x = make(), inputs(6)
    weight, bias = dense(layer)
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
        x, positives = inputs(7, step).requires_grad_(), make_positives(7, L, seed=step)
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
def test_topk_merges_all_parts(make, make_positives, k):
    layer, x, exclude = make(dtype=torch.float32), inputs(9, dtype=torch.float32), make_positives(9, L)
    logits = layer(x).detach()
    for row in range(9):
        logits[row, exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]] = -math.inf
    scores, labels = layer.topk(x, k, exclude)
    expected = logits.topk(k)
    torch.testing.assert_close(scores, expected.values)
    torch.testing.assert_close(logits.gather(1, labels.clamp_min(0)).masked_fill(labels < 0, -math.inf), scores)
    assert ((labels == -1) == (scores == -math.inf)).all()


@pytest.mark.parametrize("kind", [head_tail, banded])
def test_equal_scores_are_in_the_order_of_labels_across_the_parts(kind):
    layer = kind(initial_scale=0.0)
    parts = ORDER.split([band.out_features for band in layer.bands])
    layer.order.assign(torch.cat([part.sort().values for part in parts]))
    exclude = Positives(torch.tensor([0, 2]), torch.tensor([4, 0]))
    assert layer.topk(torch.ones(1, D), 6)[1].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert layer.topk(torch.ones(1, D), 6, exclude)[1].tolist() == [[1, 2, 3, 5, 6, 7]]
    assert layer.topk(torch.ones(1, D), L)[1].tolist() == [list(range(L))]


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12], [3, 11, 13], [12], [1, 2]])
def test_active_inputs_are_as_good_as_all_of_them(make, columns, make_positives):
    columns = torch.tensor(columns)
    active = ActiveInputs(torch.randn(20, len(columns), generator=torch.Generator().manual_seed(1)), columns, D)
    one, other, positives = make(torch.float32), make(torch.float32), make_positives(20, L)
    value, dx = one.train_step(active, positives, Loss.BCE, SGD(0.1))
    expected, whole = other.train_step(active.dense(), positives, Loss.BCE, SGD(0.1))
    assert value == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(dx, whole[:, columns])
    for band, twin in zip(one.bands, other.bands, strict=True):
        torch.testing.assert_close(band.weight, twin.weight)
    torch.testing.assert_close(one.topk(active, 3)[0], one.topk(active.dense(), 3)[0])


def test_a_part_without_positives_learns_from_its_negatives(make):
    layer, x = make(), inputs(5)
    nothing = Positives(torch.zeros(6, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    before = [band.bias.clone() for band in layer.bands]
    one_label = Positives(torch.arange(6), ORDER[-1:].expand(5))  # the last part's
    for positives in (nothing, one_label):
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    for band, bias in zip(layer.bands, before, strict=True):
        assert (band.bias < bias)[: band.out_features - 1].all()


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, D)), min_size=1, max_size=4), st.integers(1, 9))
def test_equal_to_one_layer_with_the_same_tensors(sizes, G):
    """Bands of one fan-in, cut where groups end, are one fixed fan-in layer."""
    F, sizes = sizes[0][1], [labels * G for labels, _ in sizes]
    labels = sum(sizes)
    layer, whole = BandedLinear(D, labels, [(n, F) for n in sizes], G), SparseLinear(D, labels, F, G)
    with torch.no_grad():
        whole.weight.copy_(torch.cat([band.weight for band in layer.bands]))
        whole.bias.copy_(torch.cat([band.bias for band in layer.bands]))
    whole.index = torch.cat([band.index.int() for band in layer.bands]).to(whole.index.dtype)
    x = torch.randn(3, D, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer(x), whole(x))
    assert torch.equal(layer.topk(x, 7)[1], whole.topk(x, 7)[1])


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, D)), min_size=1, max_size=4),
    st.integers(1, 30),
    st.booleans(),
    st.integers(0, 99),
)
def test_topk_is_what_sorting_all_scores_gives(bands, k, excluding, seed):
    """With scores that are small whole numbers, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(labels for labels, _ in bands)
    layer = BandedLinear(D, count, bands, seed=seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator))
    parts = torch.randperm(count, generator=generator).split([labels for labels, _ in bands])
    layer.order.assign(torch.cat([part.sort().values for part in parts]))
    x = torch.randint(-1, 2, (3, D), generator=generator).float()
    exclude = Positives(torch.tensor([0, 2, 2, 5]), torch.randint(count, (5,), generator=generator))
    scores, labels = layer.topk(x, k, exclude if excluding else None)
    assert scores.shape == labels.shape == (3, min(k, count))
    for row, logits in enumerate(layer(x).tolist()):
        barred = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]].tolist() if excluding else []
        best = sorted((-score, label) for label, score in enumerate(logits) if label not in barred)
        best += [(math.inf, -1)] * len(barred)
        expected = [(-negated, label) for negated, label in best[: labels.shape[1]]]
        assert list(zip(scores[row].tolist(), labels[row].tolist(), strict=True)) == expected


def test_the_sparse_parts_are_the_layers_with_their_labels():
    layer = HeadTailLinear(D, L, 5, 4, head_labels=H)
    layer.order.assign(ORDER)
    (part,) = layer.sparse_parts()
    assert part.layer is layer.tail
    assert torch.equal(part.labels, ORDER[H:])
    head = layer.head.weight.detach().clone()
    assert part.layer.rewire(Prune(0.4), 1).tolist() == [2] * len(layer.tail.index)
    assert torch.equal(layer.head.weight, head)
    layer = banded()
    layer.order.assign(ORDER)
    parts = layer.sparse_parts()
    assert [part.layer.fan_in for part in parts] == [fan_in for _, fan_in in BANDS]
    assert torch.equal(torch.cat([part.labels for part in parts]), ORDER)
    assert [len(part.labels) for part in parts] == [labels for labels, _ in BANDS]


def test_settings_and_state_build_the_same_layer(make):
    layer, x = make(dtype=torch.float32), inputs(3, dtype=torch.float32)
    with torch.device("meta"):
        twin = type(layer)(**layer.settings())
    twin.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.topk(x, 5)[1], layer.topk(x, 5)[1])
    assert twin.settings() == layer.settings()
    spoilt = layer.state_dict() | {"order.outer": torch.zeros(L, dtype=torch.int32)}
    with pytest.raises(CheckpointError, match=r"order\.outer"):
        twin.load_state_dict(spoilt)


def test_parts_start_from_streams_of_their_own():
    layer = BandedLinear(200, 40, [(20, 8), (20, 8)])
    assert not torch.equal(layer.band0.index, layer.band1.index)
    assert not torch.equal(layer.band0.weight, layer.band1.weight)


def test_sizes():
    split = HeadTailLinear(D, L, 5, head_labels=H, head_inputs=10)
    assert split.connections == H * 10 + (L - H) * 5
    assert sum(split.nbytes().values()) == 4 * (H * 10 + (L - H) * 5 + 2 * L) + 2 * (L - H) * 5
    whole = SparseLinear(D, L, 5)
    assert split.tail.nbytes()["weight"] == whole.nbytes()["weight"] * (L - H) // L
    weights = sum(labels * fan_in for labels, fan_in in BANDS)
    assert banded().connections == weights
    assert sum(banded().nbytes().values()) == (4 + 2) * weights + 4 * 2 * L


@pytest.mark.parametrize("head_labels", [0, L, L + 1, -1])
def test_a_head_or_tail_of_nothing_is_refused(head_labels):
    with pytest.raises(ConfigError, match=f"head_labels={head_labels} must lie between 1 and {L - 1}"):
        HeadTailLinear(D, L, 5, head_labels=head_labels)


@pytest.mark.parametrize("head_inputs", [0, D + 1])
def test_impossible_head_inputs_are_refused(head_inputs):
    with pytest.raises(ConfigError, match=f"head_inputs={head_inputs} must lie in 1..{D}"):
        HeadTailLinear(D, L, 5, head_labels=H, head_inputs=head_inputs)


@pytest.mark.parametrize("bands", [[], [(0, 3), (L, 3)], [(L - 1, 3)], [(L, 3), (1, 3)], [(-1, 3), (L + 1, 3)]])
def test_bands_that_are_not_all_labels_are_refused(bands):
    with pytest.raises(ConfigError, match=rf"bands of \[.*\] labels: .* all {L}"):
        BandedLinear(D, L, bands)


@pytest.mark.parametrize("fan_in", [0, D + 1])
def test_an_impossible_fan_in_of_a_band_is_refused(fan_in):
    with pytest.raises(ConfigError, match=f"fan_in={fan_in} must lie between 1 and the number of inputs, {D}"):
        BandedLinear(D, L, [(10, 5), (L - 10, fan_in)])
