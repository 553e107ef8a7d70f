"""The texts of labels in blocks, against all pairs sorted at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels import relevant_texts as module
from fanin.labels.relevant_texts import relevant_texts

L, LABELS = 9, 12


def random_positives(seed, N):
    """(N + 1,) offsets and labels below 12, each once a text."""
    random = np.random.default_rng(seed)
    rows = [random.permutation(LABELS)[: random.integers(0, 5)] for _ in range(N)]
    return np.cumsum([0, *map(len, rows)]), np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int32)


def truth(indptr, labels, rows, order):
    """(place, text, number) of every pair, sorted by place and text."""
    places = {label: place for place, label in enumerate(order.tolist())}
    pairs = [(row, i) for row in rows.tolist() for i in range(indptr[row], indptr[row + 1])]
    return sorted((places[labels[i]], row, i) for row, i in pairs if labels[i] in places)


@pytest.fixture(params=[(1, 1, 1), (7, 5, 3), (40, 9, 100), (10**6, 10**6, 10**6)])
def limits(request, monkeypatch):
    """Work of a block, pairs of a pass, and texts looked at in one go."""
    for name, value in zip(("MOST_WORK", "MOST_PAIRS", "_ROWS_AT_A_TIME"), request.param, strict=True):
        monkeypatch.setattr(module, name, value)
    return request.param


@pytest.mark.parametrize("G", [1, 4, 20])
@pytest.mark.parametrize("seed", range(5))
def test_every_pair_is_in_the_block_of_its_label(limits, G, seed):
    random = np.random.default_rng(seed)
    indptr, labels = random_positives(seed, 30)
    rows = np.sort(random.permutation(30)[:22])
    order = random.permutation(LABELS)[:L]
    length = random.integers(0, 6, 30)
    blocks = list(relevant_texts(indptr, labels, rows, order, lambda some: length[some], group_size=G))
    found = [
        pair
        for block in blocks
        for pair in zip((block.start + block.place).tolist(), block.row.tolist(), block.pair.tolist(), strict=True)
    ]
    assert found == truth(indptr, labels, rows, order)
    assert [place for block in blocks for place in range(block.start, block.stop)] == list(range(L))
    for block in blocks:
        assert block.start % G == 0
        assert block.stop - block.start <= G or length[block.row].sum() <= limits[0]


@given(st.integers(0, 99), st.integers(0, 8), st.integers(1, 9))
def test_labels_without_texts_have_blocks_too(seed, N, most):
    """Where labels cost something themselves there are few of them in a block."""
    indptr, labels = random_positives(seed, N)
    blocks = list(relevant_texts(indptr, labels, np.arange(N), np.arange(50), np.zeros_like, work_of_label=1))
    assert blocks[-1].stop == 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_WORK", most)
        blocks = list(relevant_texts(indptr, labels, np.arange(N), np.arange(50), np.zeros_like, work_of_label=1))
    assert max(block.stop - block.start for block in blocks) == most
    assert sum(len(block.row) for block in blocks) == len(labels)
