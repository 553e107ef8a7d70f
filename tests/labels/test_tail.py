"""Weights and margins by training frequency."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels.propensity import inverse_propensities
from fanin.labels.tail import frequency_margins, propensity_weights

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=20).map(sorted)


@given(COUNTS, st.floats(0, 2), st.floats(0, 1), st.floats(0.1, 3))
def test_rare_labels_weigh_more_and_none_without_bound(counts, strength, a, b):
    weights = propensity_weights(counts, 10_000, strength, a, b)
    bound = (1 + (np.log(10_000) - 1) * ((b + 1) / b) ** a) ** strength
    assert weights.dtype == np.float32
    assert (np.diff(weights) <= 0).all()
    assert weights.min() >= 1
    assert weights.max() <= bound * (1 + 1e-6)


def test_strength_one_is_the_inverse_propensity_and_zero_nothing():
    counts = [0, 3, 500]
    np.testing.assert_allclose(
        propensity_weights(counts, 1000, 1.0, 0.6, 2.6), inverse_propensities(counts, 1000, 0.6, 2.6), rtol=1e-6
    )
    assert propensity_weights(counts, 1000, 0.0, 0.6, 2.6).tolist() == [1, 1, 1]


@given(COUNTS, st.floats(0.1, 10))
def test_margins_fall_with_the_fourth_root(counts, strength):
    margins = frequency_margins(counts, strength)
    assert margins.dtype == np.float32
    for count, margin in zip(counts, margins, strict=True):
        assert margin == pytest.approx(strength / max(count, 1) ** 0.25, rel=1e-6)
