"""Label features against sums taken label by label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.labels import features as features_module
from fanin.labels.features import label_features


def pifa(x, positives, n_labels):
    """(L, dim) float64, one positive after the other, the largest value of a row 127."""
    sums = np.zeros((n_labels, x.shape[1]))
    for row, labels in zip(x.astype(np.float64), positives, strict=True):
        for label in labels:
            sums[label] += row
    largest = np.abs(sums).max(axis=1, keepdims=True)
    return 127 * sums / np.where(largest > 0, largest, 1)


def csr(positives):
    indptr = np.concatenate([[0], np.cumsum([len(labels) for labels in positives])]).astype(np.int64)
    return indptr, np.array([label for labels in positives for label in labels], np.int32)


POSITIVES = st.lists(st.lists(st.integers(0, 6), unique=True, max_size=5), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40)
@given(POSITIVES, st.integers(0, 100), st.data())
def test_directions_of_sums(positives, seed, data):
    x = np.random.default_rng(seed).normal(size=(len(positives), 3)).astype(np.float32)
    rows = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), unique=True)), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features_module, "SUMMED_VALUES", 7)  # two labels of three features
        patch.setattr(features_module, "BLOCK_ROWS", 3)
        found = label_features(lambda some: x[some], 3, *csr(positives), 7, rows=rows)
    assert found.dtype == np.int8
    np.testing.assert_allclose(found, pifa(x[rows], [positives[i] for i in rows], 7), atol=0.51)


def test_one_piece_or_many_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    positives = [rng.permutation(50)[: rng.integers(0, 9)].tolist() for _ in range(200)]
    x = rng.normal(size=(200, 16)).astype(np.float32)
    whole = label_features(lambda some: x[some], 16, *csr(positives), 50)
    np.testing.assert_allclose(whole, pifa(x, positives, 50), atol=0.51)
    asked = []
    monkeypatch.setattr(features_module, "SUMMED_VALUES", 16 * 10)
    again = label_features(lambda some: asked.append(len(some)) or x[some], 16, *csr(positives), 50)
    np.testing.assert_array_equal(again, whole)
    assert len(asked) == 5
    assert sum(asked) < 5 * 200  # texts without a label of the piece are not asked for


@pytest.mark.parametrize("x", [np.zeros((1, 2), np.float32), np.zeros(3, np.float32)])
def test_wrong_shape(x):
    with pytest.raises(DataError, match="must have 3 features"):
        label_features(lambda rows: x, 3, np.array([0, 1]), np.array([0]), 2)


def test_not_finite():
    x = np.array([[1], [np.nan]], np.float32)
    with pytest.raises(DataError, match="row 1 "):
        label_features(lambda rows: x[rows], 1, np.array([0, 1, 2]), np.array([0, 1]), 2)
