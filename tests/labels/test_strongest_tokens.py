"""The tokens that mark labels, against dense arithmetic in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.labels import relevant_texts, strongest_tokens
from fanin.labels.strongest_tokens import marking_tokens
from fanin.labels.weighted_texts import WeightedTexts


def random_texts(N, V, seed=0, longest=9):
    """Token ids, some beyond V and some texts empty, and offsets."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest, N)
    return rng.integers(0, V + 3, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])


def dense_rows(tokens, offsets, weights):
    """(N, V) float64, by definition."""
    rows = np.zeros((len(offsets) - 1, len(weights)))
    for i in range(len(rows)):
        for token in tokens[offsets[i] : offsets[i + 1]]:
            if token < len(weights):
                rows[i, token] += weights[token]
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def random_positives(L, N, seed=0, share=0.3):
    """(L, N) of 0 and 1; the second label has no texts."""
    relevant = np.random.default_rng(seed + 1).random((L, N)) < share
    relevant[1:2] = False
    return relevant.astype(np.float32)


def found_for(texts, positives, order, F, G):
    """All blocks put together: tokens (S, F) and weights (L, F)."""
    N = positives.shape[1]
    texts_of, labels = np.nonzero(positives.T)
    indptr = np.searchsorted(texts_of, np.arange(N + 1))
    blocks = list(marking_tokens(texts, indptr, labels, np.arange(N), order, F, G))
    starts = [start for start, _ in blocks]
    sizes = [len(found.weights) for _, found in blocks]
    assert starts == np.cumsum([0, *sizes])[:-1].tolist()
    assert all(start % G == 0 for start in starts)
    return (
        np.concatenate([found.tokens for _, found in blocks]),
        np.concatenate([found.weights for _, found in blocks]),
        len(blocks),
    )


def assert_strongest(tokens, weights, vectors, F, G):
    """Check against label vectors (L, V) float64 in the order of the places; near ties may fall either way."""
    L = len(vectors)
    assert tokens.shape == (-(-L // G), F)
    assert weights.shape == (L, F)
    for s, chosen in enumerate(tokens):
        members = range(s * G, min((s + 1) * G, L))
        energy = np.square(vectors[list(members)]).sum(0)
        own = chosen[chosen >= 0]
        assert len(set(own.tolist())) == len(own) == min(F, int((energy > 0).sum()))
        assert (chosen[len(own) :] == -1).all()
        np.testing.assert_allclose(energy[own], np.sort(energy)[::-1][: len(own)], rtol=1e-5)
        for label in members:
            expected = np.zeros(F)
            expected[: len(own)] = vectors[label, own]
            norm = np.linalg.norm(expected)
            np.testing.assert_allclose(weights[label], expected / (norm if norm > 0 else 1), atol=1e-5)


def work_at_a_time(monkeypatch, limit):
    for module in (relevant_texts, strongest_tokens):
        monkeypatch.setattr(module, "MOST_WORK", limit)


@pytest.mark.parametrize("G", [1, 3, 8, 100])
@pytest.mark.parametrize("F", [1, 4, 20])
@pytest.mark.parametrize("limit", [1, 40, 1 << 23])
def test_the_strongest_tokens_of_dense_arithmetic(monkeypatch, G, F, limit):
    work_at_a_time(monkeypatch, limit)
    L, N, V = 21, 40, 15
    tokens, offsets = random_texts(N, V)
    weights = np.linspace(0.5, 2, V).astype(np.float32)
    positives, order = random_positives(L, N), np.random.default_rng(2).permutation(L)
    chosen, found, blocks = found_for(WeightedTexts(tokens, offsets, weights), positives, order, F, G)
    vectors = positives.astype(np.float64) @ dense_rows(tokens, offsets, weights)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert_strongest(chosen, found, (vectors / np.where(norm > 0, norm, 1))[order], F, G)
    if G < L:
        assert (blocks > 1) == (limit < 1000)


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 6), st.integers(1, 13), st.integers(0, 99))
def test_any_shape(L, N, F, G, seed):
    V = 6
    tokens, offsets = random_texts(N, V, seed, longest=4)
    positives = random_positives(L, N, seed, share=0.5)
    chosen, found, _ = found_for(WeightedTexts(tokens, offsets, np.ones(V, np.float32)), positives, np.arange(L), F, G)
    vectors = positives.astype(np.float64) @ dense_rows(tokens, offsets, np.ones(V))
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert_strongest(chosen, found, vectors / np.where(norm > 0, norm, 1), F, G)


@pytest.mark.parametrize("G", [1, 2])
@pytest.mark.parametrize("limit", [1, 1 << 23])
def test_labels_without_texts_mark_nothing(monkeypatch, G, limit):
    """Also where they come first, last, and where all are such."""
    work_at_a_time(monkeypatch, limit)
    texts = WeightedTexts(np.array([0, 1]), np.array([0, 1, 2]), np.float32([1, 1]))
    positives = np.zeros((7, 2), np.float32)
    tokens, weights, _ = found_for(texts, positives, np.arange(7), 2, G)
    assert (tokens == -1).all()
    assert not weights.any()
    positives[4, 1] = 1
    tokens, weights, _ = found_for(texts, positives, np.arange(7), 2, G)
    assert tokens[4 // G].tolist() == [1, -1]
    assert weights[4].tolist() == [1, 0]
    assert (np.delete(tokens, 4 // G, axis=0) == -1).all()
    assert not np.delete(weights, 4, axis=0).any()


def test_among_equals_the_lower_token_comes_first():
    texts = WeightedTexts(np.array([5, 2, 4, 0]), np.array([0, 4]), np.ones(6, np.float32))
    tokens, weights, _ = found_for(texts, np.ones((1, 1), np.float32), np.arange(1), 3, 1)
    assert tokens.tolist() == [[0, 2, 4]]
    np.testing.assert_allclose(weights, 3**-0.5, rtol=1e-6)
