"""Whole rewirings: what the schedule says is done, reported, and nothing else changes."""


import pytest
import torch

from fanin.classifier.rewiring import RewireReport, Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.spec import AdamW, Loss, Prune


def test_the_report_counts_what_changed(backend_name):
    layer = SparseLinear(30, 100, 10, 4, backend=backend_name)
    before = layer.index.to(torch.int64)
    schedule = RewiringSchedule(interval=10, fraction=0.3, total_steps=100, decay="none")
    rewiring = Rewiring(layer.sparse_part(), schedule, seed=1)
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
    report = Rewiring(layer.sparse_part(), schedule, seed=1).rewire(1)
    assert (report.replaced, report.sets_changed, report.threshold) == (2 + 4, 2, 0.05)
    assert not layer.weight[3, :2].any()
    assert layer.weight[7].tolist() == pytest.approx([0] * 4 + [-0.02] * 2 + [1] * 4)


def test_steps_and_seeds_draw_from_streams_of_their_own():
    schedule = RewiringSchedule(interval=1, fraction=0.5, total_steps=100, decay="none")

    def rewired(step, seed):
        layer = SparseLinear(200, 30, 10)
        Rewiring(layer.sparse_part(), schedule, seed).rewire(step)
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
