"""Ranges of bounded size, against their definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels.bounded_ranges import bounded_ranges


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_no_gaps_and_none_could_be_longer(sizes, most):
    ranges = list(bounded_ranges(np.array(sizes, np.int64), most))
    assert [place for first, last in ranges for place in range(first, last)] == list(range(len(sizes)))
    for first, last in ranges:
        assert last == first + 1 or sum(sizes[first:last]) <= most
        assert last == len(sizes) or sum(sizes[first : last + 1]) > most
