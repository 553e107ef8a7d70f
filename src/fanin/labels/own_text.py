"""How much of a label's likeness to one of its texts the text itself has brought."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

_BLOCK_ENTRIES = 1 << 21  # entries of the pairs' texts that are worked on at a time


def own_text_shares(
    texts: sparse.csr_array, labels: NDArray[np.int64], indptr: NDArray[np.int64], n_labels: int
) -> NDArray[np.float32]:
    """What a text loses of its cosine with each of its labels when the label is made without it.

    A label's vector v is the sum of its texts. For a text x of it that is ``cos(x, v) - max(cos(x, v - x), 0)``: the
    leave-one-out estimate of how far the label's score of x exceeds that of an unseen text like it. 0 for a label of
    one text, of which nothing would be left.

    Args:
        texts: (N, V), rows of Euclidean norm 1 or 0, such as :func:`fanin.labels.strongest_tokens.text_rows`.
        labels: (P,) labels of the texts, each once a text.
        indptr: (N + 1,) text i owns ``labels[indptr[i]:indptr[i + 1]]``.
        n_labels: L.

    Returns:
        (P,) each in [0, 1].

    >>> from scipy import sparse
    >>> texts = sparse.csr_array(np.float32([[1, 0], [0, 1], [0.6, 0.8]]))
    >>> own_text_shares(texts, np.array([0, 0, 1]), np.array([0, 1, 2, 3]), 2).round(3).tolist()
    [0.7070000171661377, 0.7070000171661377, 0.0]
    """
    rows = np.repeat(np.arange(texts.shape[0]), np.diff(indptr))  # (P,)
    by_label = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_labels)
    firsts = np.concatenate([[0], np.cumsum(counts)])  # of each label's pairs in that order
    lengths = np.diff(texts.indptr)[rows[by_label]]  # entries of each pair's text
    work = np.concatenate([[0], np.cumsum(lengths)])[firsts]  # (L + 1,)
    cuts = np.flatnonzero(np.diff(work[1:] // _BLOCK_ENTRIES, prepend=-1))
    shares = np.zeros(len(labels), np.float32)
    for start, stop in pairwise([*cuts.tolist(), n_labels]):
        pairs = by_label[firsts[start] : firsts[stop]]
        shares[pairs] = _shares(texts[rows[pairs]], labels[pairs] - start)
    shares[counts[labels] < 2] = 0
    return shares


def _shares(texts: sparse.csr_array, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of pairs in the order of their labels: the text of each (n, V), and its label, from 0 on."""
    n, V = texts.shape
    pair = np.repeat(np.arange(n), np.diff(texts.indptr))  # of every entry
    cell, entry_cell = np.unique(labels[pair] * V + texts.indices, return_inverse=True)
    vectors = np.bincount(entry_cell, texts.data, minlength=len(cell))  # the labels' vectors, by (label, token)
    squares = np.bincount(cell // V, vectors**2, minlength=int(labels.max(initial=0)) + 1)[labels]  # |v|^2, (n,)
    inner = np.bincount(pair, texts.data * vectors[entry_cell], minlength=n)  # x . v
    own = np.bincount(pair, texts.data.astype(np.float64) ** 2, minlength=n)  # |x|^2
    rest = np.maximum(squares - 2 * inner + own, 0)  # |v - x|^2
    with_it = inner / np.sqrt(squares, where=squares > 0, out=np.ones(n))
    # Rounding leaves about 1e-7 of a vector that is x and nothing else.
    without = np.where(rest > 1e-6, (inner - own) / np.sqrt(np.maximum(rest, 1e-6)), 0)
    shares: NDArray[np.float64] = np.clip(with_it - np.maximum(without, 0), 0, 1)
    return shares
