"""Leave-one-out cosines of texts and their labels, against one label and text at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fanin.labels import own_text
from fanin.labels.own_text import own_text_shares


def _cosine(x, v):
    norms = np.linalg.norm(x) * np.linalg.norm(v)
    return 0.0 if norms < 1e-6 else x @ v / norms


def _truth(texts, labels, indptr):
    rows = np.repeat(np.arange(len(texts)), np.diff(indptr))
    shares = []
    for row, label in zip(rows, labels, strict=True):
        of_label = rows[labels == label]
        v, x = texts[of_label].sum(0), texts[row]
        without = v - x
        alone = len(of_label) < 2
        shares.append(0.0 if alone else max(_cosine(x, v) - max(_cosine(x, without), 0), 0))
    return shares


def _random(seed, N, V, L):
    generator = np.random.default_rng(seed)
    dense = generator.random((N, V)) * (generator.random((N, V)) < 0.4)
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    labels = [np.sort(generator.permutation(L)[: generator.integers(0, 4)]) for _ in range(N)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in labels])])
    return dense, np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64), indptr


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.integers(4, 7))
def test_it_is_the_leave_one_out_difference(seed, N, V, L):
    texts, labels, indptr = _random(seed, N, V, L)
    found = own_text_shares(sparse.csr_array(texts), labels, indptr, L)
    np.testing.assert_allclose(found, _truth(texts, labels, indptr), atol=2e-5)


@pytest.mark.parametrize("entries", [1, 7, 60])
def test_blocks_do_not_change_it(entries, monkeypatch):
    texts, labels, indptr = _random(3, 40, 9, 6)
    whole = own_text_shares(sparse.csr_array(texts), labels, indptr, 6)
    monkeypatch.setattr(own_text, "_BLOCK_ENTRIES", entries)
    np.testing.assert_array_equal(own_text_shares(sparse.csr_array(texts), labels, indptr, 6), whole)


def test_texts_without_tokens_and_no_pairs_at_all():
    empty = sparse.csr_array((2, 3), dtype=np.float32)
    assert own_text_shares(empty, np.array([0, 0]), np.array([0, 1, 2]), 2).tolist() == [0, 0]
    assert own_text_shares(empty, np.zeros(0, np.int64), np.array([0, 0, 0]), 2).shape == (0,)
