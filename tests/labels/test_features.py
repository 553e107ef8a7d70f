"""Label features against sums taken label by label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.labels import features as features_module
from fanin.labels.features import PositiveSums, label_text_features, with_names
from fanin.labels.text_vectors import TextProjection


def normalised(matrix):
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(length > 0, length, 1)


def pifa(x, positives, n_labels):
    """(L, dim) float64, one positive after the other."""
    sums = np.zeros((n_labels, x.shape[1]))
    for row, labels in zip(x.astype(np.float64), positives, strict=True):
        for label in labels:
            sums[label] += row
    return normalised(sums)


def csr(positives):
    indptr = np.concatenate([[0], np.cumsum([len(labels) for labels in positives])]).astype(np.int64)
    return indptr, np.array([label for labels in positives for label in labels], np.int32)


POSITIVES = st.lists(st.lists(st.integers(0, 6), unique=True, max_size=5), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40)
@given(POSITIVES, st.integers(1, 8), st.integers(0, 100))
def test_sums_over_batches(positives, batch, seed):
    x = np.random.default_rng(seed).normal(size=(len(positives), 3)).astype(np.float32)
    sums = PositiveSums(n_labels=7, dim=3)
    for start in range(0, len(x), batch):
        sums.add(x[start : start + batch], *csr(positives[start : start + batch]))
    np.testing.assert_allclose(sums.finish(), pifa(x, positives, 7), atol=1e-4)


@pytest.mark.parametrize("x", [np.zeros((1, 2), np.float32), np.zeros(3, np.float32)])
def test_wrong_shape(x):
    with pytest.raises(DataError, match="must have 3 features"):
        PositiveSums(2, 3).add(x, np.array([0, 1]), np.array([0]))


def test_not_finite():
    with pytest.raises(DataError, match="row 1 "):
        PositiveSums(2, 1).add(np.array([[1], [np.nan]], np.float32), np.array([0, 1, 2]), np.array([0, 1]))


@pytest.mark.parametrize("block", [3, 16384])
def test_text_features(monkeypatch, block):
    monkeypatch.setattr(features_module, "_BLOCK_ROWS", block)
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 6, 20))])
    tokens = rng.integers(0, 15, offsets[-1]).astype(np.uint16)
    positives = [rng.permutation(9)[: rng.integers(0, 4)].tolist() for _ in range(20)]
    rows = np.array([1, 2, 5, 8, 9, 13, 17])
    projection = TextProjection(tokens, offsets, vocabulary_size=15, rows=rows, dim=6)
    found = label_text_features(projection, tokens, offsets, *csr(positives), 9, rows=rows)
    texts = projection.vectors(tokens, offsets)
    np.testing.assert_allclose(found, pifa(texts[rows], [positives[i] for i in rows], 9), atol=1e-5)
    every = label_text_features(projection, tokens, offsets, *csr(positives), 9)
    np.testing.assert_allclose(every, pifa(texts, positives, 9), atol=1e-5)


def test_names():
    rng = np.random.default_rng(1)
    features = normalised(rng.normal(size=(5, 4))).astype(np.float32)
    features[[1, 2]] = 0
    names = rng.normal(size=(5, 4)).astype(np.float32)
    names[[2, 3]] = 0
    expected = normalised(features + 0.5 * normalised(names))
    kept = names.copy()
    found = with_names(features, names, weight=0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(names, kept)
    assert np.linalg.norm(found, axis=1).round(5).tolist() == [1, 1, 0, 1, 1]
