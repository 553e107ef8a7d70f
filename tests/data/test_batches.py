from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.data.batches import Batches
from fanin.data.store import TokenizedSplit
from fanin.errors import ConfigError

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 999), max_size=6), st.lists(st.integers(0, 50), max_size=4)), max_size=20
)


def make_split(rows):
    def csr(parts, dtype):
        indptr = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return indptr, np.array([value for part in parts for value in part], dtype=dtype)

    return TokenizedSplit(*csr([t for t, _ in rows], np.uint16), *csr([p for _, p in rows], np.int32))


def unpack(batch):
    """(row, tokens, labels) of each row of a batch."""
    tokens, offsets = batch.inputs
    tokens = np.split(tokens, offsets[1:-1])
    labels = np.split(batch.indices, batch.indptr[1:-1])
    return [(int(r), t.tolist(), p.tolist()) for r, t, p in zip(batch.rows, tokens, labels, strict=True)]


@given(ROWS, st.integers(1, 7), st.integers(0, 3), st.booleans())
def test_an_epoch_visits_every_row_once(rows, batch_size, epoch, shuffle):
    batches = Batches(make_split(rows), batch_size, seed=5, shuffle=shuffle)
    found = list(batches.epoch(epoch))
    assert len(found) == len(batches)
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    visited = [row for batch in found for row in unpack(batch)]
    expected = [(i, tokens, labels) for i, (tokens, labels) in enumerate(rows)]
    assert (sorted(visited) if shuffle else visited) == expected
    for batch in found:
        arrays = [batch.rows, *batch.inputs, batch.indptr, batch.indices]
        assert all(array.dtype == np.int64 and array.flags.c_contiguous and array.flags.writeable for array in arrays)
        assert len(batch.inputs[1]) == len(batch.indptr) == len(batch.rows) + 1


def order(batches, epoch, start=0):
    return [batch.rows.tolist() for batch in batches.epoch(epoch, start)]


def test_order_depends_on_seed_and_epoch_alone():
    split = make_split([([i], [i]) for i in range(40)])
    batches = Batches(split, 7, seed=1)
    assert order(batches, 3) == order(Batches(split, 7, seed=1), 3)
    assert order(batches, 3) != order(batches, 4)
    assert order(batches, 3) != order(Batches(split, 7, seed=2), 3)


def test_an_epoch_can_be_resumed():
    batches = Batches(make_split([([i], [i]) for i in range(40)]), 7, seed=1)
    for start in range(len(batches) + 1):
        assert order(batches, 2, start) == order(batches, 2)[start:]


def test_rows_restrict_an_epoch():
    split = make_split([([i], [i]) for i in range(10)])
    assert order(Batches(split, 2, shuffle=False, rows=np.array([7, 1, 3])), 0) == [[7, 1], [3]]
    assert sorted(row for rows in order(Batches(split, 2, rows=np.array([7, 1, 3])), 0) for row in rows) == [1, 3, 7]
    assert Batches(split, 2, rows=np.array([7, 1, 3])).n_rows == 3


def test_arrays_serve_an_embedding_bag_as_they_are():
    split = make_split([([1, 2], [0]), ([], []), ([3], [1, 2])])
    (batch,) = Batches(split, 3, shuffle=False).epoch()
    bag = torch.nn.EmbeddingBag(4, 2, mode="sum", include_last_offset=True)
    found = bag(*map(torch.from_numpy, batch.inputs))
    table = bag.weight
    torch.testing.assert_close(found, torch.stack([table[1] + table[2], torch.zeros(2), table[3]]))


def test_refuses_empty_batches():
    with pytest.raises(ConfigError, match="at least 1"):
        Batches(make_split([]), 0)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5), st.integers(2, 4), st.integers(0, 3))
def test_batches_by_length_still_visit_every_row_once(lengths, batch_size, window, epoch):
    split = make_split([([1] * length, []) for length in lengths])
    batches = Batches(split, batch_size, seed=5, length_window=window)
    found = order(batches, epoch)
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert [len(rows) for rows in found[:-1]] == [batch_size] * max(len(found) - 1, 0)
    assert found == order(batches, epoch)
    assert order(batches, epoch, len(found)) == []


def test_batches_by_length_need_less_padding_and_change_from_epoch_to_epoch():
    lengths = np.random.default_rng(0).integers(1, 60, 400)
    split = make_split([([1] * length, []) for length in lengths])

    def padding(window):
        batches = Batches(split, 16, seed=1, length_window=window)
        return sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in order(batches, 0))

    assert padding(8) < padding(1) / 5
    batches = Batches(split, 16, seed=1, length_window=8)
    assert {tuple(sorted(rows)) for rows in order(batches, 0)} != {tuple(sorted(rows)) for rows in order(batches, 1)}
    means = [lengths[rows].mean() for rows in order(batches, 0)]
    assert sum(a > b for a, b in pairwise(means)) > 5  # short and long batches come mixed
