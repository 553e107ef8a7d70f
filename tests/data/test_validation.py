"""Rows held out for validation: equal texts are never parted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data import validation
from fanin.data.store import TokenizedSplit
from fanin.data.validation import draw_validation, text_keys
from fanin.errors import DataError


def make_split(rows):
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    tokens = np.array([token for row in rows for token in row], dtype=np.uint16)
    return TokenizedSplit(indptr, tokens, np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int32))


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=40), st.sampled_from([1, 3, 1 << 16]))
def test_keys_are_equal_for_equal_texts_only(rows, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "_BLOCK_ROWS", block)
        keys = text_keys(make_split(rows)).tolist()
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert (keys[i] == keys[j]) == (one == other), (one, other)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_row_is_on_one_side_and_keys_are_not_parted(values, share, seed):
    keys = np.array(values, dtype=np.uint64)
    distinct = len(set(values))
    if distinct < 2:
        with pytest.raises(DataError, match="too few"):
            draw_validation(keys, share, seed)
        return
    train, held_out = draw_validation(keys, share, seed)
    assert sorted([*train, *held_out]) == list(range(len(keys)))
    assert not set(keys[train].tolist()) & set(keys[held_out].tolist())
    assert len(set(keys[held_out].tolist())) == min(max(1, round(share * distinct)), distinct - 1)
    again = draw_validation(keys, share, seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held_out, again[1])


def test_another_seed_holds_out_other_rows():
    keys = np.arange(1000, dtype=np.uint64)
    assert not np.array_equal(draw_validation(keys, 0.01, 1)[1], draw_validation(keys, 0.01, 2)[1])
