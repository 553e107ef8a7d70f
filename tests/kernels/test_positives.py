"""CSR positives as rows, dense blocks and sorted pairs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.positives import dense_block, rows_of, sorted_by_label
from fanin.kernels.spec import Positives

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6)


def _csr(rows):
    flat = [label for row in rows for label in row]
    indptr = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return Positives(indptr, torch.tensor(flat, dtype=torch.int64))


@given(ROWS, st.integers(0, 9), st.integers(0, 10))
def test_views_of_the_same_pairs(rows, start, width):
    positives = _csr(rows)
    pairs = {(row, label) for row, labels in enumerate(rows) for label in labels}
    assert rows_of(positives).tolist() == [row for row, labels in enumerate(rows) for _ in labels]
    block = dense_block(positives, start, start + width, torch.float32)
    assert block.shape == (len(rows), width)
    inside = {(row, label - start) for row, label in pairs if start <= label < start + width}
    assert set(map(tuple, block.nonzero().tolist())) == inside
    assert float(block.sum()) == len(inside)
    found_rows, found_labels = sorted_by_label(positives)
    found = list(zip(found_labels.tolist(), found_rows.tolist(), strict=True))
    assert found == sorted((label, row) for row, label in pairs)


def test_mistake_10_rows_and_labels_beyond_the_reach_of_float32():
    """2^24 + 1 is the first integer that float32 cannot hold."""
    big = 2**24
    positives = Positives(
        torch.cat([torch.zeros(big + 2, dtype=torch.int64), torch.tensor([2])]), torch.tensor([big + 3, big + 1])
    )
    rows, labels = sorted_by_label(positives)
    assert rows.tolist() == [big + 1, big + 1]
    assert labels.tolist() == [big + 1, big + 3]
    few = Positives(torch.tensor([0, 2]), positives.indices)
    assert dense_block(few, big, big + 5, torch.bool).tolist() == [[False, True, False, True, False]]
