"""Projected TF-IDF vectors against the whole TF-IDF matrix in float64."""

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


def matrix_of(projection, vocabulary):
    """The (V, dim) projection: the vectors of texts of one token."""
    return projection.vectors(np.arange(vocabulary), np.arange(vocabulary + 1))


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_principal_directions_at_damped_length(monkeypatch, block):
    monkeypatch.setattr(text_vectors, "BLOCK_TOKENS", block)
    for name in ("_SUMMED_ROWS", "_GRAM_ROWS"):
        monkeypatch.setattr(text_vectors, name, min(block, 8))
    tokens, offsets = random_texts(40, 30)
    rows = np.arange(5, 35)
    whole = tf_idf(tokens, offsets, 30, rows)[rows]
    random = np.random.default_rng(2).standard_normal((30, 6), np.float32)
    directions, singular, _ = np.linalg.svd(whole.T @ whole @ random, full_matrices=False)
    expected = directions * singular**-0.25  # of XᵀX: the singular values of X to the power -1/2
    found = matrix_of(TextProjection(tokens, offsets, vocabulary_size=30, rows=rows, dim=6, seed=2), 30)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_subjects_lie_apart():
    # Texts of two subjects that share one frequent token; texts of a subject share few tokens or none.
    rng = np.random.default_rng(0)
    subject = np.arange(400) % 2
    own = rng.integers(0, 40, (400, 4)) + 1 + 40 * subject[:, None]
    tokens = np.concatenate([np.zeros((400, 1), int), own], axis=1).ravel()
    offsets = 5 * np.arange(401)
    vectors = TextProjection(tokens, offsets, vocabulary_size=81, dim=4).vectors(tokens, offsets)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    same = subject[:, None] == subject
    assert cosines[same].mean() > cosines[~same].mean() + 0.2


def test_more_features_than_rank():
    tokens, offsets = np.array([0, 1, 0, 1, 2]), np.array([0, 2, 4, 5])  # rank 2
    vectors = TextProjection(tokens, offsets, vocabulary_size=3, dim=10).vectors(tokens, offsets)
    assert np.isfinite(vectors).all()
    assert np.linalg.matrix_rank(vectors, tol=1e-3) == 2
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert abs(vectors[0] @ vectors[2]) < 0.05 * np.linalg.norm(vectors[0]) * np.linalg.norm(vectors[2])


def test_nothing_to_fit_on():
    projection = TextProjection(np.zeros(0, np.int32), np.array([0, 0]), vocabulary_size=3, dim=2)
    assert not projection.vectors(np.array([1]), np.array([0, 1])).any()


def test_linear_in_tf_idf():
    tokens, offsets = random_texts(60, 25, seed=1)
    projection = TextProjection(tokens, offsets, vocabulary_size=25, dim=8, seed=3)
    expected = tf_idf(tokens, offsets, 25, np.arange(60)) @ matrix_of(projection, 25)
    np.testing.assert_allclose(projection.vectors(tokens, offsets), expected, atol=1e-5)


def test_some_rows_in_any_order():
    tokens, offsets = random_texts(30, 20)
    projection = TextProjection(tokens, offsets, vocabulary_size=20, dim=8)
    rows = np.array([7, 3, 29, 3])
    np.testing.assert_array_equal(projection.vectors(tokens, offsets, rows), projection.vectors(tokens, offsets)[rows])
    assert projection.vectors(tokens, offsets, rows[:0]).shape == (0, 8)


def test_texts_without_tokens_are_zero():
    projection = TextProjection(np.array([1, 3]), np.array([0, 0, 1, 1, 2]), vocabulary_size=4, dim=5)
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
