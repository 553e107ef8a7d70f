"""Leave-one-out cosines of texts and their labels, against one label and text at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.labels import own_text, relevant_texts
from fanin.labels.own_text import own_text_shares
from fanin.labels.weighted_texts import WeightedTexts


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
    """Texts, some empty and some tokens twice in one, and labels, each once a text."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 5, N)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    texts = WeightedTexts(generator.integers(0, V, offsets[-1]), offsets, generator.random(V, np.float32) + 0.1)
    labels = [np.sort(generator.permutation(L)[: generator.integers(0, 4)]) for _ in range(N)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in labels])])
    return texts, np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64), indptr


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.integers(4, 7))
def test_it_is_the_leave_one_out_difference(seed, N, V, L):
    texts, labels, indptr = _random(seed, N, V, L)
    found = own_text_shares(texts, indptr, labels, np.arange(N), L)
    np.testing.assert_allclose(found, _truth(_dense(texts, N), labels, indptr), atol=2e-5)


@pytest.mark.parametrize("most", [1, 7, 60])
def test_blocks_do_not_change_it(most, monkeypatch):
    """Nor that a label of many texts is taken in pieces."""
    texts, labels, indptr = _random(3, 40, 9, 6)
    whole = own_text_shares(texts, indptr, labels, np.arange(40), 6)
    for module in (own_text, relevant_texts):
        monkeypatch.setattr(module, "MOST_WORK", most)
    np.testing.assert_array_equal(own_text_shares(texts, indptr, labels, np.arange(40), 6), whole)


def test_texts_that_are_not_used_have_no_share_and_no_part_in_others():
    texts, labels, indptr = _random(5, 30, 9, 6)
    rows = np.arange(1, 30, 2)
    used = np.isin(np.repeat(np.arange(30), np.diff(indptr)), rows)
    found = own_text_shares(texts, indptr, labels, rows, 6)
    assert not found[~used].any()
    of_used = np.concatenate([[0], np.cumsum(np.diff(indptr)[rows])])
    np.testing.assert_allclose(found[used], _truth(_dense(texts, 30)[rows], labels[used], of_used), atol=2e-5)


def test_texts_without_tokens_and_no_pairs_at_all():
    empty = WeightedTexts(np.empty(0, np.int64), np.zeros(3, np.int64), np.ones(3, np.float32))
    assert own_text_shares(empty, np.array([0, 1, 2]), np.array([0, 0]), np.arange(2), 2).tolist() == [0, 0]
    assert own_text_shares(empty, np.array([0, 0, 0]), np.zeros(0, np.int64), np.arange(2), 2).shape == (0,)


def _dense(texts, N):
    return texts.bags(np.arange(N)).toarray().astype(np.float64)
