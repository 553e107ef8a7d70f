"""Two splits read as one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanin.data.batches import Batches
from fanin.data.extended_split import ExtendedSplit, joined
from fanin.data.feature_rows import DenseFeatures, FeatureSplit
from fanin.data.store import TokenizedSplit

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 999), max_size=6), st.lists(st.integers(0, 50), max_size=4)), max_size=12
)


def make_split(rows, dtype):
    def csr(parts, dtype):
        indptr = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return indptr, np.array([value for part in parts for value in part], dtype=dtype)

    return TokenizedSplit(*csr([t for t, _ in rows], dtype), *csr([p for _, p in rows], np.int32))


@given(ROWS, ROWS, st.integers(1, 7), st.integers(0, 3))
def test_batches_of_two_splits_are_those_of_all_their_rows(first, second, batch_size, window):
    both = ExtendedSplit(make_split(first, np.uint16), make_split(second, np.int32))
    whole = make_split(first + second, np.int32)
    assert len(both) == len(whole)
    assert both.lengths().tolist() == whole.lengths().tolist()
    settings = {"batch_size": batch_size, "seed": 3, "length_window": window + 1}
    for found, expected in zip(Batches(both, **settings).epoch(1), Batches(whole, **settings).epoch(1), strict=True):
        arrays = [found.rows, *found.inputs, found.indptr, found.indices]
        for array, right in zip(
            arrays, [expected.rows, *expected.inputs, expected.indptr, expected.indices], strict=True
        ):
            assert array.dtype == np.int64
            assert array.flags.c_contiguous
            assert array.flags.writeable
            np.testing.assert_array_equal(array, right)


def test_vectors_of_two_splits_are_those_of_all_their_rows():
    generator = np.random.default_rng(0)
    parts = [generator.random((n, 4), np.float32) for n in (5, 3)]
    splits = [FeatureSplit(DenseFeatures(x), np.arange(len(x) + 1), np.arange(len(x), dtype=np.int32)) for x in parts]
    both, rows = joined([(splits[0], np.array([1, 4])), (splits[1], np.array([0, 2]))])
    assert rows.tolist() == [1, 4, 5, 7]
    some = np.array([7, 0, 5, 5, 4])
    (found,) = both.inputs(some)
    np.testing.assert_array_equal(found, np.concatenate(parts)[some])
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert both.lengths().tolist() == [4] * 8


def test_one_source_stays_as_it_is():
    split, rows = make_split([([1], [0])], np.int32), np.arange(1)
    assert joined([(split, rows)]) == (split, rows)
