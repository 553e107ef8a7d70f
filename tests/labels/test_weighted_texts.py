"""Weighted bags of tokens, against dense arithmetic in float64."""

import numpy as np

from fanin.labels.weighted_texts import WeightedTexts


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
