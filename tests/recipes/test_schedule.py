"""The learning rate's course."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.recipes.optimizer_recipe import ScheduleSection
from fanin.recipes.schedule import learning_rate


def test_warm_up_is_linear_and_ends_at_the_peak():
    rates = [learning_rate(2.0, 10, 0.0, step, 100) for step in range(1, 11)]
    assert rates == pytest.approx([0.2 * step for step in range(1, 11)])


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_final_share():
    assert learning_rate(2.0, 0.0, 0.1, 50, 100) == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert learning_rate(2.0, 0.0, 0.1, 100, 100) == pytest.approx(0.2)


@given(
    warmup=st.floats(0, 1200),
    final=st.floats(0, 1),
    total=st.integers(1, 1000),
    data=st.data(),
    peak=st.floats(1e-6, 10),
)
def test_rates_stay_between_zero_and_the_peak(warmup, final, total, data, peak):
    step = data.draw(st.integers(1, total))
    rate = learning_rate(peak, warmup, final, step, total)
    assert 0 <= rate <= peak * (1 + 1e-12)


def test_a_single_step_with_warm_up_over_the_whole_run():
    assert learning_rate(1.0, 1, 0.0, 1, 1) == pytest.approx(1.0)


def test_a_run_that_ends_within_its_warm_up():
    assert learning_rate(2.0, 100, 0.0, 50, 50) == pytest.approx(1.0)


def test_a_warm_up_by_share_and_by_steps():
    by_share, by_steps = (
        ScheduleSection(learning_rate=2.0, warmup_share=0.1),
        ScheduleSection(learning_rate=2.0, warmup_steps=10),
    )
    assert [by_share.rate(step, 100) for step in range(1, 101)] == [by_steps.rate(step, 100) for step in range(1, 101)]
    assert by_share.rate(10, 200) == by_steps.rate(5, 200)
    assert ScheduleSection(learning_rate=2.0, warmup_steps=0).rate(1, 1000) == pytest.approx(2.0, rel=1e-4)
