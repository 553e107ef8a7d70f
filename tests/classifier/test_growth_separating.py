"""Growth towards separating features against means and deviations of everything kept, in float64."""

import pytest
import torch

from fanin.classifier import group_scores as group_scores_module
from fanin.classifier import growth_separating
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import Positives

L, D, B = 17, 6, 8


def batches(make_positives, count, offset=0.0):
    """Values that half precision holds exactly."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(-20, 20, (B, D), generator=generator) / 4 + offset for _ in range(count)]
    return [(x, make_positives(B, L, seed=i)) for i, x in enumerate(drawn)]


def truth(kept, inputs=D):
    """(L, inputs) by the words of the documentation."""
    x = torch.cat([x for x, _ in kept]).double()[:, :inputs]
    mean, spread = x.mean(0), x.std(0, correction=0)
    found = torch.zeros(L, inputs, dtype=torch.float64)
    for label in range(L):
        rows = []
        for i, (_, positives) in enumerate(kept):
            bounds = positives.indptr.tolist()
            rows += [i * B + row for row in range(B) if label in positives.indices[bounds[row] : bounds[row + 1]]]
        if rows:
            found[label] = torch.where(spread > 0, (x[rows].mean(0) - mean).abs() / spread, 0.0)
    return found


def measured(kept, layer=None, **settings):
    measure = SeparatingScores([layer or SparseLinear(D, L, 3)], settings.pop("inputs", D), **settings)
    for x, positives in kept:
        measure.observe(x, positives, 3)
    return measure


@pytest.mark.parametrize("block", [7, 1 << 22])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_scores_are_distances_of_means_in_deviations(make_positives, block, offset, monkeypatch):
    for module in (group_scores_module, growth_separating):
        monkeypatch.setattr(module, "BLOCK_VALUES", block)
    kept = batches(make_positives, 4, offset)
    measure, sets = measured(kept), torch.arange(L)
    torch.testing.assert_close(measure.scores(0, sets), truth(kept).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(measure.scores(0, sets[2::5]), truth(kept)[2::5].float(), rtol=1e-4, atol=1e-4)
    assert measure.scores(0, sets).any()


@pytest.mark.parametrize("how", ["mean", "max"])
def test_groups_and_the_first_inputs(make_positives, how):
    kept = batches(make_positives, 4)
    measure = measured(kept, SparseLinear(D, L, 3, 4), inputs=4, group_score=how)
    groups = truth(kept, 4).split(4)
    wanted = torch.stack([group.mean(0) if how == "mean" else group.amax(0) for group in groups])
    torch.testing.assert_close(measure.scores(0, torch.arange(5)), wanted.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "known"), [(B, 1), (3 * B, 3), (3 * B + 5, 3), (100 * B, 7), (1, 1)])
def test_the_oldest_texts_are_forgotten(make_positives, rows, known):
    kept = batches(make_positives, 7)
    found = measured(kept, rows=rows).scores(0, torch.arange(L))
    torch.testing.assert_close(found, truth(kept[-known:]).float(), rtol=1e-4, atol=1e-4)


def test_batches_of_several_sizes_never_mix():
    """Rows of a batch that was partly written over are gone together with their labels."""
    generator = torch.Generator().manual_seed(0)
    measure = SeparatingScores([SparseLinear(L, L, 3)], L, rows=20)
    for size in (7, 9, 5, 20, 3, 30, 8, 8, 8):
        labels = torch.randint(L, (size,), generator=generator)
        x = torch.eye(L)[labels]  # input l tells label l: where it is kept with share p, its spread is sqrt(p (1 - p))
        measure.observe(x, Positives(torch.arange(size + 1), labels), 0)
        found = measure.scores(0, torch.arange(L))
        known = found.any(dim=1).nonzero().squeeze(1).tolist()
        assert set(labels.tolist()) <= set(known)
        for label in known:
            others = [other for other in known if other != label]
            product = found[label, label] * found[others, label]  # (1 - p) / spread, times p / spread
            torch.testing.assert_close(product, torch.ones(len(others)), rtol=1e-3, atol=0)


def test_an_input_that_never_changes_and_values_beyond_half_precision(make_positives):
    ((x, positives),) = batches(make_positives, 1)
    x[:, 1] = 3.25
    x[:, 2] *= 1e6
    found = measured([(x, positives)]).scores(0, torch.arange(L))
    assert not found[:, 1].any()
    assert found.isfinite().all()
    assert found[:, 2].any()


def test_nothing_is_known_before_a_batch_and_of_labels_without_positives(make_positives):
    assert not measured([]).scores(0, torch.arange(L)).any()
    x = batches(make_positives, 1)[0][0]
    positives = Positives(torch.arange(B + 1), torch.full((B,), 5).index_fill(0, torch.tensor([0, 1]), 6))
    found = measured([(x, positives)]).scores(0, torch.arange(L))
    assert found.any(dim=1).nonzero().squeeze(1).tolist() == [5, 6]


def test_x_by_its_active_columns_and_with_a_graph_is_the_same(make_positives):
    ((x, positives),) = batches(make_positives, 1)
    active = ActiveInputs(x[:, :3].clone().requires_grad_() * 1, torch.tensor([0, 2, 5]), D)
    found = measured([(active, positives)]).scores(0, torch.arange(L))
    assert torch.equal(found, measured([(active.dense().detach(), positives)]).scores(0, torch.arange(L)))
