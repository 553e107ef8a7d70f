"""Whole rewirings: what the schedule says is done, reported, and nothing else changes."""

import copy

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.growth import Growth
from fanin.classifier.growth_gradient import GradientScores
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.pruning import Pruning
from fanin.classifier.rewiring import RewireReport, Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.classifier.sparse import SparseLinear, SparsePart
from fanin.errors import ConfigError
from fanin.kernels.spec import AdamW, Loss, Positives, Prune


def test_the_report_counts_what_changed(backend_name):
    layer = SparseLinear(30, 100, 10, 4, backend=backend_name)
    before = layer.index.to(torch.int64)
    schedule = RewiringSchedule(interval=10, fraction=0.3, total_steps=100, decay="none")
    rewiring = Rewiring(layer.sparse_parts(), schedule, seed=1)
    assert rewiring.rewire(9) is None
    assert torch.equal(layer.index.to(torch.int64), before)
    report = rewiring.rewire(10)
    changed = layer.index.to(torch.int64) != before
    assert report == RewireReport(
        step=10,
        fraction=0.3,
        threshold=None,
        replaced=75,
        sets_changed=25,
        share=pytest.approx(0.3),
        grown={"random": 75},
    )
    assert int(changed.sum()) == 75
    assert report.as_dict()["replaced"] == 75


def test_the_report_of_a_threshold(backend_name):
    layer = SparseLinear(30, 20, 10, backend=backend_name)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[3, :2], layer.weight[7, :6] = 0.01, -0.02
    schedule = RewiringSchedule(interval=1, fraction=0.4, total_steps=10, threshold=0.05, decay="none")
    report = Rewiring(layer.sparse_parts(), schedule, seed=1).rewire(1)
    assert (report.replaced, report.sets_changed, report.threshold) == (2 + 4, 2, 0.05)
    assert not layer.weight[3, :2].any()
    assert layer.weight[7].tolist() == pytest.approx([0] * 4 + [-0.02] * 2 + [1] * 4)


def test_steps_and_seeds_draw_from_streams_of_their_own():
    schedule = RewiringSchedule(interval=1, fraction=0.5, total_steps=100, decay="none")

    def rewired(step, seed):
        layer = SparseLinear(200, 30, 10)
        Rewiring(layer.sparse_parts(), schedule, seed).rewire(step)
        return layer.index.to(torch.int64)

    assert torch.equal(rewired(3, 7), rewired(3, 7))
    assert not torch.equal(rewired(3, 7), rewired(4, 7))
    assert not torch.equal(rewired(3, 7), rewired(3, 8))


def test_mistake_03_rewiring_resets_the_optimizer_state_of_the_layer(backend_name, make_positives):
    layer = SparseLinear(30, 40, 8, 4, backend=backend_name)
    layer.train_step(torch.randn(16, 30), make_positives(16, 40), Loss.BCE, AdamW(0.1))
    before = layer.index.to(torch.int64)
    assert all(tensor.all() for tensor in layer.optimizer_state().values())
    layer.rewire(Prune(0.25), 9)
    regrown = (layer.index.to(torch.int64) != before).repeat_interleave(4, dim=0)
    assert int(regrown.sum()) == 40 * 2
    assert not layer.weight.detach()[regrown].any()
    for name in ("weight.0", "weight.1"):
        state = layer.optimizer_state()[name]
        assert not state[regrown].any()
        assert state[~regrown].all()
    assert all(layer.optimizer_state()[f"bias.{i}"].all() for i in range(2))


@pytest.mark.parametrize("D", [40, 70_000])
def test_regrown_connections_read_the_first_inputs(backend_name, D):
    layer = SparseLinear(D, 200, 8, 4, backend=backend_name)
    before = layer.index.to(torch.int64)
    assert layer.rewire(Prune(0.5), 1, inputs=20).tolist() == [4] * 50
    after = layer.index.to(torch.int64)
    assert int(after[after != before].max()) == 19
    for inputs in (0, D + 1):
        with pytest.raises(ConfigError, match=f"inputs={inputs} must lie in 1..{D}"):
            layer.rewire(Prune(0.5), 1, inputs)


def test_an_untrained_layer_can_be_rewired_and_keeps_learning(backend_name, make_positives):
    layer = SparseLinear(30, 40, 8, backend=backend_name)
    x, positives = torch.randn(16, 30, generator=torch.Generator().manual_seed(0)), make_positives(16, 40)
    losses = []
    for step in range(60):
        losses.append(layer.train_step(x, positives, Loss.BCE, AdamW(0.05))[0])
        if step % 10 == 0:
            layer.rewire(Prune(0.25), step)
    assert losses[-1] < losses[0] / 3


def watching(layer, mode, inputs, pruning=None, parts=None, **settings):
    """A rewiring at every fifth step, of half the connections."""
    parts = parts or layer.sparse_parts()
    layers = [part.layer for part in parts]
    measures = {
        "gradient": GradientScores(layers, Loss.BCE, inputs, 2, settings.get("group_score", "mean")),
        "separating": SeparatingScores(layers, inputs, 100, settings.get("group_score", "mean")),
    }
    shares = {mode: 1.0} if isinstance(mode, str) else mode
    growth = Growth(inputs, shares, {name: measures[name] for name in shares if name != "random"})
    schedule = RewiringSchedule(interval=5, fraction=0.5, total_steps=1000, stop_share=1.0, decay="none")
    return Rewiring(parts, schedule, 1, pruning, growth)


MODES = ["random", "gradient", "separating", {"random": 0.5, "gradient": 0.25, "separating": 0.25}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("pruning", [Pruning("layer"), Pruning("set", "max")], ids=str)
@pytest.mark.parametrize("settings", [{}, {"group_size": 3, "ordered": True, "cluster_size": 4}], ids=str)
def test_only_what_was_pruned_changes(backend_name, make_positives, mode, pruning, settings):
    D, L, F, inputs = 20, 40, 6, 15
    layer = SparseLinear(D, L, F, backend=backend_name, **settings)
    if layer.order is not None:
        layer.order.assign(torch.randperm(L, generator=torch.Generator().manual_seed(1)))
    rewiring = watching(layer, mode, inputs, pruning)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 6):
        x, positives = torch.randn(16, D, generator=generator), make_positives(16, L, seed=step)
        layer.train_step(x, positives, Loss.BCE, AdamW(0.1))
        rewiring.observe(step, x, positives)
        if step < 5:
            assert rewiring.rewire(step) is None
    before = {name: tensor.clone() for name, tensor in (layer.state_dict() | layer.optimizer_state()).items()}
    report = rewiring.rewire(5)
    after = layer.state_dict() | layer.optimizer_state()
    old, new = before["index"].long(), after["index"].long()
    changed = old != new
    assert report.replaced == int(changed.sum()) == sum(report.grown.values()) > 0
    assert set(report.grown) >= ({mode} if isinstance(mode, str) else set(mode))
    assert report.sets_changed == int(changed.any(dim=1).sum())
    assert int(new[changed].max()) < inputs
    for s in range(len(old)):
        assert len(set(new[s].tolist())) == F
        assert not set(new[s][changed[s]].tolist()) & set(old[s].tolist())
    of_labels = changed.repeat_interleave(layer.group_size, dim=0)[:L]
    for name in ("weight", "weight.0", "weight.1"):
        assert torch.equal(after[name], before[name].masked_fill(of_labels, 0))
    for name in before.keys() - {"index", "weight", "weight.0", "weight.1"}:
        assert torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("inputs", [20, 12])
def test_block_by_block_is_what_the_backend_does(monkeypatch, G, inputs):
    schedule = RewiringSchedule(interval=1, fraction=0.4, total_steps=100, decay="none")
    found = []
    for forced in (False, True):
        layer = SparseLinear(20, 40, 6, G, backend="reference")
        rewiring = Rewiring(layer.sparse_parts(), schedule, 1, growth=Growth(inputs))
        if forced:
            monkeypatch.setattr(SparseLinear, "rewire", None)
            monkeypatch.setattr(Pruning, "__eq__", lambda *_: False)
        report = rewiring.rewire(1)
        # The backend fills a set's slots from the weakest on: the same inputs, in other places of equal weight 0.
        found.append((report, layer.index.long().sort(dim=1).values, layer.weight.detach().clone()))
    (one, index, weight), (other, same_index, same_weight) = found
    assert one == other
    assert torch.equal(index, same_index)
    assert torch.equal(weight, same_weight)


@pytest.mark.parametrize("mode", ["gradient", "separating"])
def test_labels_keep_their_data_whatever_their_places(mode):
    """A layer with an internal order grows what the plain one grows for the same labels."""
    L, D, order = 24, 16, torch.randperm(24, generator=torch.Generator().manual_seed(1))
    plain, ordered = SparseLinear(D, L, 5), SparseLinear(D, L, 5, ordered=True)
    ordered.order.assign(order)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(ordered, name).copy_(getattr(plain, name)[order])
    ordered.index = plain.index[order]
    x = torch.randn(30, D, generator=torch.Generator().manual_seed(2))
    positives = Positives(torch.arange(31), torch.arange(30) % L)
    for layer in (plain, ordered):
        rewiring = watching(layer, mode, D)
        rewiring.observe(5, x, positives)
        assert rewiring.rewire(5).replaced == L * 2
    assert torch.equal(ordered.index, plain.index[order])


def test_labels_that_another_part_serves_are_left_out():
    """Of a classifier in two parts: labels 1, 4 and 6 of eight are here, in another order."""
    layer, D = SparseLinear(5, 3, 2), 5
    rewiring = Rewiring(
        [SparsePart(layer, torch.tensor([6, 1, 4]))],
        RewiringSchedule(interval=1, fraction=0.5, total_steps=10, stop_share=1.0, decay="none"),
        seed=0,
        growth=Growth(D, {"separating": 1.0}, {"separating": SeparatingScores([layer], D)}),
    )
    layer.index = torch.tensor([[3, 4]] * 3).to(torch.uint16)
    # Texts of labels 6, 1 and 4 are marked by inputs 0, 1 and 2; the rest has labels of the other part.
    positives = Positives(torch.tensor([0, 2, 4, 5, 6, 6]), torch.tensor([6, 0, 7, 1, 4, 5]))
    rewiring.observe(1, torch.eye(5), positives)
    assert rewiring.rewire(1).grown == {"separating": 3}
    assert [set(row) & {0, 1, 2} for row in layer.index.tolist()] == [{0}, {1}, {2}]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_several_parts_are_rewired_as_one(mode, make_positives):
    """Each part as if it were alone with what the others leave of the positives, but for the random draws."""
    D, L = 20, 40
    layer = BandedLinear(D, L, [(3, 12), (9, 8), (28, 4)], 2)
    layer.order.assign(torch.randperm(L, generator=torch.Generator().manual_seed(1)))
    x, positives = torch.randn(50, D, generator=torch.Generator().manual_seed(2)), make_positives(50, L)
    twin = copy.deepcopy(layer)
    rewiring = watching(layer, mode, D)
    rewiring.observe(5, x, positives)
    before = [part.layer.index.long() for part in layer.sparse_parts()]
    report = rewiring.rewire(5)
    changed = [part.layer.index.long() != old for part, old in zip(layer.sparse_parts(), before, strict=True)]
    assert [int(change.sum()) for change in changed] == [2 * 6, 5 * 4, 14 * 2]
    assert (report.replaced, report.sets_changed, report.share) == (60, 2 + 5 + 14, 0.5)
    assert sum(report.grown.values()) == 60
    for part, other in zip(layer.sparse_parts(), twin.sparse_parts(), strict=True):
        alone = watching(other.layer, mode, D, parts=[other])
        alone.observe(5, x, positives)
        alone.rewire(5)
        if mode in ("gradient", "separating"):
            assert torch.equal(part.layer.index, other.layer.index)


def test_parts_draw_from_streams_of_their_own():
    layer = BandedLinear(200, 60, [(30, 10), (30, 10)])
    layer.band1.load_state_dict(layer.band0.state_dict())
    schedule = RewiringSchedule(interval=1, fraction=0.5, total_steps=100, decay="none")
    Rewiring(layer.sparse_parts(), schedule, 7).rewire(3)
    assert not (layer.band0.index.long() == layer.band1.index.long()).all(dim=1).any()


@pytest.mark.parametrize("G", [1, 3])
def test_mistake_02_no_duplicates_after_1000_rewirings_of_all_modes(G):
    D, L, F = 12, 6, 5
    layer = SparseLinear(D, L, F, G)
    generator = torch.Generator().manual_seed(0)
    kinds = [(mode, Pruning(scope, how)) for mode in MODES for scope, how in (("set", "mean"), ("layer", "max"))]
    rewirings = [watching(layer, mode, D - 1, pruning) for mode, pruning in kinds]
    for number in range(1000):
        rewiring, step = rewirings[number % len(rewirings)], 5 * (1 + number % 200)
        with torch.no_grad():
            layer.weight.normal_(generator=generator)
        labels = torch.randint(L, (8,), generator=generator)
        rewiring.observe(step, torch.randn(8, D, generator=generator), Positives(torch.arange(9), labels))
        before = layer.index.long()
        assert rewiring.rewire(step).replaced > 0
        after = layer.index.long()
        ordered = after.sort(dim=1).values
        assert bool((ordered[:, 1:] > ordered[:, :-1]).all())
        assert int(ordered.max()) < D
        assert not (torch.where(after != before, after, -1)[:, :, None] == before[:, None, :]).any()


@pytest.mark.parametrize("mode", ["gradient", "separating"])
def test_what_marks_a_label_is_found(mode):
    """Each label has one input that tells it; from index sets without it, growth finds it at once."""
    L = D = 20
    layer = SparseLinear(D, L, 4, initial_scale=0.0)
    layer.set_bias(torch.full((L,), -3.0))  # about the log-odds of a label; else the gradient is that of the bias
    layer.index = ((torch.arange(L)[:, None] + torch.arange(1, 5)) % D).to(torch.uint16)
    rewiring = watching(layer, mode, D)
    labels = torch.arange(200) % L
    x = torch.nn.functional.one_hot(labels, D) + 0.3 * torch.randn(200, D, generator=torch.Generator().manual_seed(0))
    rewiring.observe(5, x, Positives(torch.arange(201), labels))
    rewiring.rewire(5)
    assert (layer.index.long() == torch.arange(L)[:, None]).any(dim=1).all()


@pytest.mark.parametrize("measure", [GradientScores, SeparatingScores])
def test_after_the_last_rewiring_nothing_is_kept(measure):
    layer = SparseLinear(16, 20, 4)
    scores = measure([layer], Loss.BCE, 16) if measure is GradientScores else measure([layer], 16)
    schedule = RewiringSchedule(interval=2, fraction=0.5, total_steps=10, stop_share=0.5)  # after steps 2 and 4
    mode = "gradient" if measure is GradientScores else "separating"
    rewiring = Rewiring(layer.sparse_parts(), schedule, 1, growth=Growth(16, {mode: 1.0}, {mode: scores}))
    x, positives = (
        torch.randn(20, 16, generator=torch.Generator().manual_seed(0)),
        Positives(torch.arange(21), torch.arange(20)),
    )
    known = []
    for step in range(1, 7):
        rewiring.observe(step, x, positives)
        known.append(bool(scores.scores(0, torch.arange(20)).any()))
    assert known == [True] * 4 + [False] * 2
