"""Weighted bags of tokens, against dense arithmetic in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels.weighted_texts import JoinedTexts, WeightedTexts


def test_bags_of_some_texts():
    random = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 9, 30))])
    tokens = random.integers(0, 15, offsets[-1])  # some beyond V = 12, some twice in a text
    weights = random.random(12).astype(np.float32) + 0.1
    texts = WeightedTexts(tokens, offsets, weights)
    rows = np.array([4, 29, 0, 4])
    expected = np.zeros((4, 12))
    for i, row in enumerate(rows):
        own = tokens[offsets[row] : offsets[row + 1]]
        expected[i] = np.bincount(own[own < 12], minlength=12) * weights
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-30)
    bags = texts.bags(rows)
    assert bags.dtype == np.float32
    assert bags.has_canonical_format
    np.testing.assert_allclose(bags.toarray(), expected, atol=1e-6)
    assert (np.diff(bags.indptr) <= texts.lengths(rows)).all()


def test_texts_without_tokens_and_no_texts():
    weights = np.ones(12, np.float32)
    assert not WeightedTexts(np.empty(0, np.int64), np.zeros(4, np.int64), weights).bags(np.arange(3)).toarray().any()
    assert WeightedTexts(np.array([1]), np.array([0, 1]), weights).bags(np.empty(0, np.int64)).shape == (0, 12)


@given(st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=8), st.data())
def test_two_sets_are_read_as_one(texts, data):
    cut = data.draw(st.integers(0, len(texts)))
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=10)), np.int64)
    weights = np.arange(1, 6, dtype=np.float32)

    def made(some):
        offsets = np.cumsum([0, *map(len, some)]).astype(np.int64)
        return WeightedTexts(np.array([token for text in some for token in text], np.int64), offsets, weights)

    both, whole = JoinedTexts(made(texts[:cut]), cut, made(texts[cut:])), made(texts)
    assert both.vocabulary_size == whole.vocabulary_size
    np.testing.assert_array_equal(both.lengths(rows), whole.lengths(rows))
    np.testing.assert_array_equal(both.bags(rows).toarray(), whole.bags(rows).toarray())
    assert both.bags(rows).has_sorted_indices
