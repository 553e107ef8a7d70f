"""Removing pairs from predictions, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.evaluation.pairs import remove_pairs

LABELS = 6

rows_of_labels = st.lists(
    st.tuples(st.permutations(range(LABELS)), st.lists(st.integers(0, LABELS - 1), max_size=6)), max_size=5
)


@given(rows_of_labels, st.integers(0, LABELS))
def test_removes_exactly_the_pairs_and_closes_the_gaps(rows, places):
    predicted = np.array([ranking[:places] for ranking, _ in rows], np.int64).reshape(len(rows), places)
    indptr = np.cumsum([0, *(len(removed) for _, removed in rows)])
    indices = np.array([label for _, removed in rows for label in removed], np.int64)
    found = remove_pairs(predicted, indptr, indices, LABELS)
    for got, (ranking, removed) in zip(found, rows, strict=True):
        left = [label for label in ranking[:places] if label not in removed]
        assert got.tolist() == left + [-1] * (places - len(left))


def test_a_transposed_pair_stays():
    predicted = np.zeros((6, 1), np.int64)
    predicted[5] = 3
    indptr = np.array([0, 0, 0, 0, 1, 1, 1])  # the pair of row 3 and label 5
    assert remove_pairs(predicted, indptr, [5], LABELS).tolist() == predicted.tolist()


def test_empty_places_stay_empty():
    assert remove_pairs([[-1, 2, -1, 4]], [0, 1], [2], LABELS).tolist() == [[4, -1, -1, -1]]


def test_another_number_of_rows_is_refused():
    with pytest.raises(DataError, match="one row of ranked labels"):
        remove_pairs([[1], [2]], [0, 1], [1], LABELS)
