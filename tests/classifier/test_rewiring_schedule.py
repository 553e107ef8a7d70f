"""When and how much is rewired."""

import math

import pytest

from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.errors import ConfigError
from fanin.kernels.spec import Prune


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


@pytest.mark.parametrize(("interval", "stop_share"), [(1, 0.66), (7, 0.5), (10, 0.0), (40, 1.0)])
def test_steps_ahead_lead_to_the_next_rewiring(interval, stop_share):
    schedule = RewiringSchedule(interval=interval, fraction=0.3, total_steps=100, stop_share=stop_share)
    rewired = [step for step in range(1, 101) if schedule.prune(step)]
    for step in range(1, 101):
        following = [later for later in rewired if later >= step]
        assert schedule.ahead(step) == (following[0] - step if following else None)
