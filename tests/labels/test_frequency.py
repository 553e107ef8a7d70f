"""Head, middle and tail labels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels.frequency import label_groups


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_groups_follow_the_frequency_and_hold_about_a_third_each(counts):
    groups, counts = label_groups(counts), np.array(counts, np.int64)
    for group in range(2):
        if (groups == group).any() and (groups > group).any():
            assert counts[groups == group].min() >= counts[groups > group].max()
    assert (groups[counts == 0] == 2).all()
    largest = counts.max(initial=0)
    if counts.sum():
        for group in (0, 1):
            held = counts[groups <= group].sum()
            assert (group + 1) * counts.sum() / 3 <= held < (group + 1) * counts.sum() / 3 + largest


def test_equal_labels_are_split_by_their_number():
    assert label_groups([5] * 6).tolist() == [0, 0, 1, 1, 2, 2]
