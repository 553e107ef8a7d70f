"""CSR positives as rows, dense blocks and sorted pairs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.positives import dense_block, kept_pairs, rows_of, sorted_by_label
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
    found = sorted_by_label(positives)
    assert found.weights is None
    assert found.margins is None
    found = list(zip(found.labels.tolist(), found.rows.tolist(), strict=True))
    assert found == sorted((label, row) for row, label in pairs)


@given(ROWS)
def test_weights_and_margins_stay_with_their_pairs(rows):
    positives = _csr(rows)
    weights = rows_of(positives) * 100.0 + positives.indices
    positives = positives._replace(weights=weights, margins=-weights)
    pairs = sorted_by_label(positives)
    torch.testing.assert_close(pairs.weights, pairs.rows * 100.0 + pairs.labels)
    torch.testing.assert_close(pairs.margins, -pairs.weights)
    assert pairs.at(slice(1, 3)).weights.tolist() == pairs.weights.tolist()[1:3]
    block = dense_block(positives, 2, 7, torch.float64, weights, elsewhere=-1)
    expected = [
        [100 * row + label if label in labels else -1 for label in range(2, 7)] for row, labels in enumerate(rows)
    ]
    assert block.tolist() == expected


@given(ROWS, st.integers(0, 9))
def test_kept_pairs_stay_in_their_rows(rows, least):
    positives = _csr(rows)
    positives = positives._replace(weights=positives.indices + 0.5)
    kept = kept_pairs(positives, positives.indices >= least)
    bounds = kept.indptr.tolist()
    found = [kept.indices[bounds[i] : bounds[i + 1]].tolist() for i in range(len(rows))]
    assert found == [[label for label in row if label >= least] for row in rows]
    torch.testing.assert_close(kept.weights, kept.indices + 0.5)
    assert kept.margins is None


def test_mistake_10_rows_and_labels_beyond_the_reach_of_float32():
    """2^24 + 1 is the first integer that float32 cannot hold."""
    big = 2**24
    positives = Positives(
        torch.cat([torch.zeros(big + 2, dtype=torch.int64), torch.tensor([2])]), torch.tensor([big + 3, big + 1])
    )
    pairs = sorted_by_label(positives)
    assert pairs.rows.tolist() == [big + 1, big + 1]
    assert pairs.labels.tolist() == [big + 1, big + 3]
    few = Positives(torch.tensor([0, 2]), positives.indices)
    assert dense_block(few, big, big + 5, torch.bool).tolist() == [[False, True, False, True, False]]
