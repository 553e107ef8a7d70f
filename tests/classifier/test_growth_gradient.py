"""Growth by gradient against autograd through the layer as a dense matrix, in float64."""

import pytest
import torch
from torch.nn import functional

from fanin.classifier import group_scores as group_scores_module
from fanin.classifier.growth_gradient import GradientScores, first_inputs
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import Loss, Positives

L, D, F, B = 23, 12, 4, 9


def a_layer(backend_name, **settings):
    layer = SparseLinear(D, L, F, seed=3, backend=backend_name, **settings)
    if layer.clusters is not None:
        with torch.no_grad():
            layer.clusters.weight.normal_(generator=torch.Generator().manual_seed(5))
    return layer


def batches(make_positives, count):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(B, D, generator=generator), make_positives(B, L, seed=i)) for i in range(count)]


def dense_gradient(layer, kept, loss):
    """Gradient (L, D) of the summed loss by the dense weights, by place."""
    columns = layer.index.long().repeat_interleave(layer.group_size, dim=0)[:L]
    dense = torch.zeros(L, D, dtype=torch.float64).scatter(1, columns, layer.weight.detach().double()).requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for x32, positives in kept:
        x = x32.double()
        logits = x @ dense.T + layer.bias.detach().double()
        if layer.clusters is not None:
            vectors = layer.clusters.weight.detach().double()
            shared = x[:, : vectors.shape[1]] @ vectors.T
            logits = logits + shared.repeat_interleave(layer.clusters.cluster_size, dim=1)[:, :L]
        target = torch.zeros(B, L, dtype=torch.float64)
        for row in range(B):
            target[row, positives.indices[positives.indptr[row] : positives.indptr[row + 1]]] = 1
        if loss is Loss.BCE:
            total = total + functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        else:
            total = total + functional.relu(1 - (2 * target - 1) * logits).square().sum()
    return torch.autograd.grad(total, dense)[0]


def by_set(values, group_size, how):
    return torch.stack([g.mean(0) if how == "mean" else g.amax(0) for g in values.split(group_size)])


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"group_size": 3},
        {"group_size": 100},
        {"cluster_size": 4},
        {"group_size": 2, "cluster_size": 5, "cluster_inputs": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("block", [30, 1 << 22])
def test_scores_are_the_dense_gradient(backend_name, make_positives, settings, loss, how, block, monkeypatch):
    monkeypatch.setattr(group_scores_module, "BLOCK_VALUES", block)
    layer = a_layer(backend_name, **settings)
    kept, inputs = batches(make_positives, 3), 10
    measure = GradientScores([layer], loss, inputs, batches=3, group_score=how)
    for x, positives in kept:
        measure.observe(x, positives, 0)
    truth = by_set(dense_gradient(layer, kept, loss)[:, :inputs].abs(), layer.group_size, how)
    sets = torch.arange(len(layer.index))
    torch.testing.assert_close(measure.scores(0, sets), truth.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(measure.scores(0, sets[::2]), truth[::2].float(), rtol=1e-4, atol=1e-4)


def test_only_the_last_batches_before_a_rewiring_count(make_positives):
    layer, sets = a_layer("reference"), torch.arange(L)
    kept = batches(make_positives, 6)
    measure = GradientScores([layer], Loss.BCE, D, batches=2)
    assert not measure.scores(0, sets).any()
    for ahead, (x, positives) in zip((5, 4, 3, 2, 1, 0), kept, strict=True):
        measure.observe(x, positives, ahead)
    truth = dense_gradient(layer, kept[-2:], Loss.BCE).abs()
    torch.testing.assert_close(measure.scores(0, sets), truth.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"cluster_size": 4, "cluster_inputs": 5}], ids=str)
@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4, 7, 11], [1, 3, 4, 9], [6], []])
def test_x_by_its_active_columns_is_the_same(backend_name, make_positives, columns, settings):
    layer, sets = a_layer(backend_name, **settings), torch.arange(L)
    ((values, positives),) = batches(make_positives, 1)
    active = ActiveInputs(values[:, : len(columns)], torch.tensor(columns, dtype=torch.int64), D)
    for inputs in (5, D):
        found, truth = GradientScores([layer], Loss.BCE, inputs), GradientScores([layer], Loss.BCE, inputs)
        found.observe(active, positives, 0)
        truth.observe(active.dense(), positives, 0)
        assert torch.equal(first_inputs(active, inputs), active.dense()[:, :inputs])
        torch.testing.assert_close(found.scores(0, sets), truth.scores(0, sets), rtol=1e-4, atol=1e-5)


def test_x_in_training_is_kept_without_its_graph(make_positives):
    layer = a_layer("reference")
    measure = GradientScores([layer], Loss.BCE, D)
    x = torch.randn(B, D, requires_grad=True)
    measure.observe(x * 2, make_positives(B, L), 0)
    measure.observe(ActiveInputs(x * 2, torch.arange(D), D), make_positives(B, L), 0)
    assert not measure.scores(0, torch.arange(L)).requires_grad


def test_a_batch_without_positives(backend_name):
    layer = a_layer(backend_name)
    measure = GradientScores([layer], Loss.BCE, D)
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(0))
    none = Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    measure.observe(x, none, 0)
    truth = dense_gradient(layer, [(x, none)], Loss.BCE).abs()
    torch.testing.assert_close(measure.scores(0, torch.arange(L)), truth.float(), rtol=1e-4, atol=1e-4)
