"""Parts of the 2-means: rows ranked in their nodes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fanin.labels.two_means import NODE_ROWS, ranked_in_nodes


def by_two_keys(scores, node):
    return np.lexsort((np.arange(len(node)), -scores.astype(np.float64), node))


FEW = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5])  # many equal ones
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.data(), st.integers(1, 60))
def test_ranks_are_those_of_two_keys(data, n):
    scores = data.draw(arrays(np.float32, n, elements=data.draw(st.sampled_from([FEW, ANY]))))
    node = np.sort(data.draw(arrays(np.int64, n, elements=st.integers(0, 20))))
    np.testing.assert_array_equal(ranked_in_nodes(scores, node), by_two_keys(scores, node))


def test_ranks_of_as_many_rows_and_nodes_as_there_may_be():
    scores = np.random.default_rng(0).normal(size=NODE_ROWS).astype(np.float32)
    for node in (np.zeros(NODE_ROWS, np.int64), np.arange(NODE_ROWS), np.arange(NODE_ROWS) + 65_535 - NODE_ROWS):
        np.testing.assert_array_equal(ranked_in_nodes(scores, node), by_two_keys(scores, node))
