"""Projected TF-IDF vectors against the whole TF-IDF matrix."""

import numpy as np
import pytest

from fanin.errors import ConfigError
from fanin.labels import text_vectors
from fanin.labels.text_vectors import TextProjection


def random_texts(n, vocabulary, seed=0, longest=12):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return (vocabulary * rng.random(offsets[-1]) ** 2).astype(np.uint16), offsets


def tf_idf(tokens, offsets, vocabulary, rows):
    """(N, V) float64, by definition; frequencies counted on ``rows``."""
    tf = np.zeros((len(offsets) - 1, vocabulary))
    for i in range(len(tf)):
        np.add.at(tf[i], tokens[offsets[i] : offsets[i + 1]].astype(int), 1)
    df = (tf[rows] > 0).sum(0)
    weights = np.where(tf > 0, 1 + np.log(np.maximum(tf, 1)), 0) * np.log((len(rows) + 1) / (df + 0.5))
    length = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights / np.where(length > 0, length, 1)


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_products_are_those_of_tf_idf(monkeypatch, block):
    monkeypatch.setattr(text_vectors, "_COUNT_TOKENS", block)
    tokens, offsets = random_texts(40, 30)
    rows = np.arange(5, 35)
    vectors = TextProjection(tokens, offsets, vocabulary_size=30, rows=rows, dim=20000).vectors(tokens, offsets)
    whole = tf_idf(tokens, offsets, 30, rows)
    assert np.abs(vectors @ vectors.T - whole @ whole.T).max() < 0.05


def test_linear_in_tf_idf():
    tokens, offsets = random_texts(60, 25, seed=1)
    projection = TextProjection(tokens, offsets, vocabulary_size=25, dim=8, seed=3)
    matrix = projection.vectors(np.arange(25), np.arange(26))  # texts of one token: the rows of the matrix
    expected = tf_idf(tokens, offsets, 25, np.arange(60)) @ matrix
    np.testing.assert_allclose(projection.vectors(tokens, offsets), expected, atol=1e-5)


def test_some_rows_in_any_order():
    tokens, offsets = random_texts(30, 20)
    projection = TextProjection(tokens, offsets, vocabulary_size=20, dim=8)
    rows = np.array([7, 3, 29, 3])
    np.testing.assert_array_equal(projection.vectors(tokens, offsets, rows), projection.vectors(tokens, offsets)[rows])
    assert projection.vectors(tokens, offsets, rows[:0]).shape == (0, 8)


def test_texts_without_tokens_are_zero():
    projection = TextProjection(np.array([1]), np.array([0, 0, 1, 1]), vocabulary_size=4, dim=5)
    vectors = projection.vectors(np.array([1, 3]), np.array([0, 0, 1, 1, 2]))
    assert (np.abs(vectors).sum(1) > 0).tolist() == [False, True, False, True]


def test_seed_decides():
    tokens, offsets = random_texts(10, 20)
    first, again, other = (
        TextProjection(tokens, offsets, vocabulary_size=20, dim=6, seed=seed).vectors(tokens, offsets)
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_impossible_dim():
    with pytest.raises(ConfigError, match="dim = 0"):
        TextProjection(np.array([0]), np.array([0, 1]), vocabulary_size=1, dim=0)
