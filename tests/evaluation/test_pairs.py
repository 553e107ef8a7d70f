"""Finding pairs among predictions, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.evaluation.pairs import as_predictions, find_pairs, pair_keys

LABELS = 6

rows_of_labels = st.lists(
    st.tuples(st.permutations(range(LABELS)), st.lists(st.integers(0, LABELS - 1), max_size=6)), max_size=5
)


@given(rows_of_labels, st.integers(0, LABELS))
def test_finds_exactly_the_pairs(rows, places):
    predicted = np.array([ranking[:places] for ranking, _ in rows], np.int64).reshape(len(rows), places)
    indptr = np.cumsum([0, *(len(wanted) for _, wanted in rows)])
    indices = np.array([label for _, wanted in rows for label in wanted], np.int64)
    found = find_pairs(predicted, pair_keys(indptr, indices, LABELS), LABELS)
    assert found.tolist() == [[label in wanted for label in ranking[:places]] for ranking, wanted in rows]


def test_a_transposed_pair_is_another():
    predicted = np.zeros((6, 1), np.int64)
    predicted[5] = 3
    indptr = np.array([0, 0, 0, 0, 1, 1, 1])  # the pair of row 3 and label 5
    assert not find_pairs(predicted, pair_keys(indptr, [5], LABELS), LABELS).any()


def test_empty_places_are_never_found():
    predicted = np.array([[-1, 2], [-1, 4]])
    keys = pair_keys([0, 2, 2], [2, 5], LABELS)  # the key of row 0 and label 5 is what row 1 makes of an empty place
    assert find_pairs(predicted, keys, LABELS).tolist() == [[False, True], [False, False]]


def test_another_number_of_rows_is_refused():
    with pytest.raises(DataError, match="one row of ranked labels"):
        as_predictions([[1], [2]], 1, LABELS)
