"""When and how much is rewired, and the report of it."""

import math

import pytest
import torch

from fanin.classifier.rewiring import RewireReport, RewiringSchedule, rewire
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.spec import AdamW, Loss, Prune


def test_steps_of_rewiring():
    schedule = RewiringSchedule(interval=10, fraction=0.3, total_steps=100)
    assert [step for step in range(1, 101) if schedule.prune(step)] == [10, 20, 30, 40, 50, 60]
    frozen = RewiringSchedule(interval=10, fraction=0.3, total_steps=100, stop_share=0)
    assert not any(frozen.prune(step) for step in range(1, 101))


def test_the_fraction_falls_by_a_cosine_to_zero_at_the_stop():
    schedule = RewiringSchedule(interval=1, fraction=0.4, total_steps=200, stop_share=0.5)
    for step in (1, 25, 50, 75, 100):
        prune = schedule.prune(step)
        assert prune.fraction == pytest.approx(0.4 * (1 + math.cos(math.pi * step / 100)) / 2)
        assert prune.threshold is None
    assert schedule.prune(50).fraction == pytest.approx(0.2)
    assert schedule.prune(100).fraction == pytest.approx(0, abs=1e-12)
    assert schedule.prune(101) is None


def test_the_threshold_falls_by_a_cosine_to_its_floor_and_the_fraction_stays():
    schedule = RewiringSchedule(interval=1, fraction=0.4, total_steps=100, threshold=0.05, stop_share=1.0)
    assert schedule.prune(50) == Prune(0.4, pytest.approx(1e-4 + (0.05 - 1e-4) / 2))
    assert schedule.prune(100) == Prune(0.4, pytest.approx(1e-4))
    thresholds = [schedule.prune(step).threshold for step in range(1, 101)]
    assert thresholds == sorted(thresholds, reverse=True)
    below_the_floor = RewiringSchedule(interval=1, fraction=0.4, total_steps=100, threshold=1e-5)
    assert below_the_floor.prune(30).threshold == pytest.approx(1e-5)


def test_without_decay_nothing_falls():
    schedule = RewiringSchedule(interval=5, fraction=0.4, total_steps=100, threshold=0.05, decay="none")
    assert schedule.prune(5) == schedule.prune(65) == Prune(0.4, 0.05)
    assert schedule.prune(70) is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("interval", 0),
        ("fraction", 0.0),
        ("fraction", 1.1),
        ("fraction", math.nan),
        ("threshold", 0.0),
        ("threshold", math.nan),
        ("stop_share", -0.1),
        ("stop_share", 1.5),
        ("decay", "linear"),
    ],
)
def test_bad_settings_are_named(setting, value):
    settings = {"interval": 10, "fraction": 0.3, "total_steps": 100} | {setting: value}
    with pytest.raises(ConfigError, match=rf"rewiring\.{setting}="):
        RewiringSchedule(**settings)


def test_the_report_counts_what_changed(backend_name):
    layer = SparseLinear(30, 100, 10, 4, backend=backend_name)
    before = layer.index.to(torch.int64)
    schedule = RewiringSchedule(interval=10, fraction=0.3, total_steps=100, decay="none")
    assert rewire(layer, schedule, 9, seed=1) is None
    assert torch.equal(layer.index.to(torch.int64), before)
    report = rewire(layer, schedule, 10, seed=1)
    changed = layer.index.to(torch.int64) != before
    assert report == RewireReport(
        step=10, fraction=0.3, threshold=None, replaced=75, sets_changed=25, share=pytest.approx(0.3)
    )
    assert int(changed.sum()) == 75
    assert report.as_dict()["replaced"] == 75


def test_the_report_of_a_threshold(backend_name):
    layer = SparseLinear(30, 20, 10, backend=backend_name)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[3, :2], layer.weight[7, :6] = 0.01, -0.02
    schedule = RewiringSchedule(interval=1, fraction=0.4, total_steps=10, threshold=0.05, decay="none")
    report = rewire(layer, schedule, 1, seed=1)
    assert (report.replaced, report.sets_changed, report.threshold) == (2 + 4, 2, 0.05)
    assert not layer.weight[3, :2].any()
    assert layer.weight[7].tolist() == pytest.approx([0] * 4 + [-0.02] * 2 + [1] * 4)


def test_steps_and_seeds_draw_from_streams_of_their_own():
    schedule = RewiringSchedule(interval=1, fraction=0.5, total_steps=100, decay="none")

    def rewired(step, seed):
        layer = SparseLinear(200, 30, 10)
        rewire(layer, schedule, step, seed)
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


def test_an_untrained_layer_can_be_rewired_and_keeps_learning(backend_name, make_positives):
    layer = SparseLinear(30, 40, 8, backend=backend_name)
    x, positives = torch.randn(16, 30, generator=torch.Generator().manual_seed(0)), make_positives(16, 40)
    losses = []
    for step in range(60):
        losses.append(layer.train_step(x, positives, Loss.BCE, AdamW(0.05))[0])
        if step % 10 == 0:
            layer.rewire(Prune(0.25), step)
    assert losses[-1] < losses[0] / 3
