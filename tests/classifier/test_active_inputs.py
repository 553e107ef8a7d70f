"""Classifiers given x by its active columns do what they do with the whole x."""

import math

import pytest
import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, AdamW, Loss, Positives

L, D, F = 57, 90, 6
LEARNED = 8
ROWS = [3, 15, 16, 40]  # index sets are narrowed from 16 rows on


def _sparse(group_size=1, **options):
    return SparseLinear(D, L, F, group_size, **options)


KINDS = {
    "sparse": _sparse,
    "grouped": lambda **options: _sparse(16, **options),
    "clusters": lambda **options: _sparse(cluster_size=5, cluster_inputs=LEARNED, **options),
    "clusters of all inputs": lambda **options: _sparse(cluster_size=5, **options),
    "groups, clusters, order": lambda **options: _sparse(
        8, cluster_size=16, cluster_inputs=LEARNED, ordered=True, **options
    ),
    "dense": lambda backend: DenseLinear(D, L),
}


@pytest.fixture(params=KINDS)
def make(request, backend_name):
    """Builds one kind of classifier, the same one at every call."""

    def build():
        layer = KINDS[request.param](backend=backend_name)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(generator=generator)
        if isinstance(layer, SparseLinear) and layer.order is not None:
            layer.order.assign(torch.randperm(L, generator=generator))
        return layer

    return build


def _active(B, learned=LEARNED, others=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randperm(D - learned, generator=generator)[:others].sort().values + learned
    columns = torch.cat([torch.arange(learned), rest])
    return ActiveInputs(torch.randn(B, len(columns), generator=generator), columns, D)


def _assert_same_steps(make, make_positives, inputs, update):
    layer, twin = make(), make()
    for seed, x in enumerate(inputs):
        positives = make_positives(len(x.values), L, seed=seed)
        value, dx = layer.train_step(x, positives, Loss.BCE, update)
        expected, whole = twin.train_step(x.dense(), positives, Loss.BCE, update)
        assert value == pytest.approx(expected, rel=1e-6)
        assert dx.shape == x.values.shape
        torch.testing.assert_close(dx, whole[:, x.columns], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(layer.optimizer_state().values(), twin.optimizer_state().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("B", ROWS)
@pytest.mark.parametrize("update", [SGD(0.1, weight_decay=0.1), AdamW(0.02, eps=1e-4, weight_decay=0.1)], ids=str)
def test_steps(make, make_positives, B, update):
    _assert_same_steps(make, make_positives, [_active(B, seed=seed) for seed in range(3)], update)


@pytest.mark.parametrize("B", ROWS)
def test_topk(make, make_positives, B):
    layer, x = make(), _active(B)
    for exclude in (None, make_positives(B, L)):
        scores, labels = layer.topk(x, 7, exclude)
        expected_scores, expected_labels = layer.topk(x.dense(), 7, exclude)
        torch.testing.assert_close(scores, expected_scores)
        assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("learned", [0, 3])
def test_learned_features_that_are_not_all_active(make, make_positives, learned):
    """Clusters read the first columns, which must not be taken for the first active ones."""
    generator = torch.Generator().manual_seed(4)
    columns = torch.randperm(D - LEARNED, generator=generator)[:20].sort().values + LEARNED
    columns = torch.cat([torch.arange(LEARNED - learned, LEARNED), columns])
    x = ActiveInputs(torch.randn(20, len(columns), generator=generator), columns, D)
    _assert_same_steps(make, make_positives, [x], SGD(0.1))


@pytest.mark.parametrize("A", [0, 1, F - 2, F - 1, F])
def test_fewer_active_columns_than_the_fan_in(make, make_positives, A):
    x = _active(20, learned=A, others=0)
    _assert_same_steps(make, make_positives, [x], SGD(0.1))
    layer = make()
    assert torch.equal(layer.topk(x, 3)[1], layer.topk(x.dense(), 3)[1])


def test_all_columns_active(make, make_positives):
    _assert_same_steps(make, make_positives, [_active(20, LEARNED, D - LEARNED)], SGD(0.1))


def test_values_that_train_an_encoder(make, make_positives):
    x = _active(20)
    values = (2 * x.values.requires_grad_()).clone()
    _, dx = make().train_step(x._replace(values=values), make_positives(20, L), Loss.BCE, SGD(0.1))
    assert not dx.requires_grad
    values.backward(dx)
    torch.testing.assert_close(x.values.grad, 2 * dx)


@pytest.mark.parametrize("B", ROWS)
def test_a_value_that_is_no_number_stays_in_its_row(make, B):
    x = _active(B)
    x.values[1, 2] = math.nan
    layer = make()
    scores, labels = layer.topk(x, L)
    expected_scores, expected_labels = layer.topk(x.dense(), L)
    assert torch.equal(labels, expected_labels)
    torch.testing.assert_close(scores, expected_scores)
    assert (labels[0] >= 0).all()
    nothing = Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    value, dx = layer.train_step(x, nothing, Loss.BCE, SGD(0.1))
    expected, whole = make().train_step(x.dense(), nothing, Loss.BCE, SGD(0.1))
    assert value == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert dx[torch.arange(B) != 1].isfinite().all()
    assert torch.equal(dx.isfinite(), whole[:, x.columns].isfinite())


COLUMNS = torch.tensor([0, 3, 7])
WRONG = [
    (ActiveInputs(torch.ones(2, 3), torch.tensor([0, 7, 3]), D), "ascending"),
    (ActiveInputs(torch.ones(2, 3), torch.tensor([0, 3, 3]), D), "each once"),
    (ActiveInputs(torch.ones(2, 3), COLUMNS.int(), D), "int64"),
    (ActiveInputs(torch.ones(2, 3), torch.tensor([-1, 3, 7]), D), rf"lie in \[0, {D}\)"),
    (ActiveInputs(torch.ones(2, 3), torch.tensor([0, 3, D]), D), rf"lie in \[0, {D}\)"),
    (ActiveInputs(torch.ones(2, 4), COLUMNS, D), r"values \(2, 4\) and columns \(3,\)"),
    (ActiveInputs(torch.ones(3), COLUMNS, D), r"values \(3,\)"),
    (ActiveInputs(torch.ones(2, 1), torch.tensor(3), D), r"columns \(\)"),
    (ActiveInputs(torch.ones(2, 3), COLUMNS, D + 1), f"of {D + 1} inputs"),
    (ActiveInputs(torch.ones(2, 3).double(), COLUMNS, D), "x is torch.float64"),
]


@pytest.mark.parametrize(("x", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_columns_get_a_message_and_change_nothing(make, x, words):
    layer, nothing = make(), Positives(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ConfigError, match=words):
        layer.train_step(x, nothing, Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match=words):
        layer.topk(x, 2)
    assert layer.steps == 0
    assert all(map(torch.equal, layer.parameters(), make().parameters()))


def test_a_wide_layer_is_narrowed_to_another_index_width(backend_name, make_positives):
    wide = 70_000
    layer, twin = (SparseLinear(wide, L, F, 4, backend=backend_name, seed=3) for _ in range(2))
    columns = layer.index.long().unique()[::2]
    x = ActiveInputs(torch.randn(20, len(columns)), columns, wide)
    positives = make_positives(20, L)
    value, dx = layer.train_step(x, positives, Loss.BCE, SGD(0.5))
    expected, whole = twin.train_step(x.dense(), positives, Loss.BCE, SGD(0.5))
    assert value == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(dx, whole[:, columns])
    torch.testing.assert_close(layer.weight, twin.weight)
    assert torch.equal(layer.index, twin.index)
