import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import ConfigError, DataError
from fanin.labels.propensity import inverse_propensities


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.6, 2.6), (0.5, 0.4)])
def test_follows_the_formula(a, b):
    n, counts = 15_539, [0, 1, 7, 1000]
    c = (math.log(n) - 1) * (b + 1) ** a
    expected = [1 + c * math.exp(-a * math.log(count + b)) for count in counts]
    np.testing.assert_allclose(inverse_propensities(counts, n, a, b), expected, rtol=1e-12)


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(50, 10**7))
def test_is_at_least_one_and_falls_with_frequency(counts, points):
    counts = np.sort(counts)
    inverse = inverse_propensities(counts, points)
    assert (inverse >= 1).all()
    assert (np.diff(inverse) <= 0).all()


def test_few_points_weigh_all_labels_alike():
    assert inverse_propensities([0, 1, 2], points=2).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("a", "b"), [(-0.1, 1.5), (math.nan, 1.5), (0.5, 0.0), (0.5, -1), (0.5, math.inf)])
def test_refuses_bad_settings(a, b):
    with pytest.raises(ConfigError, match="propensity"):
        inverse_propensities([1], 10, a, b)


@pytest.mark.parametrize(
    ("counts", "points", "message"),
    [
        ([1, -1], 10, "label 1 has a training count of -1"),
        ([1, 11], 10, r"0\.\.10"),
        ([0.5], 10, "label 0"),
        ([math.nan], 10, "label 0"),
        ([[1]], 10, "shape"),
        ([0], 0, "at least one training point"),
    ],
)
def test_refuses_bad_counts(counts, points, message):
    with pytest.raises(DataError, match=message):
        inverse_propensities(counts, points)
