"""How much of a label's likeness to one of its texts the text itself has brought."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.labels.bounded_ranges import bounded_ranges
from fanin.labels.relevant_texts import MOST_WORK, relevant_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fanin.labels.relevant_texts import RelevantTexts
    from fanin.labels.weighted_texts import JoinedTexts, WeightedTexts


def own_text_shares(
    texts: WeightedTexts | JoinedTexts,
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    rows: NDArray[np.int64],
    n_labels: int,
) -> NDArray[np.float32]:
    """What a text loses of its cosine with each of its labels when the label is made without it.

    A label's vector v is the sum of its texts. For a text x of it that is ``cos(x, v) - max(cos(x, v - x), 0)``: the
    leave-one-out estimate of how far the label's score of x exceeds that of an unseen text like it. 0 for a label of
    one text, of which nothing would be left.

    Args:
        texts: all N texts.
        indptr: (N + 1,) text i owns ``labels[indptr[i]:indptr[i + 1]]``.
        labels: (P,) labels of the texts, each once a text.
        rows: (n,) the texts that labels are made of, ascending.
        n_labels: L.

    Returns:
        (P,) each in [0, 1]; 0 for the pairs of all other texts.

    >>> from fanin.labels.weighted_texts import WeightedTexts
    >>> texts = WeightedTexts(np.array([0, 1, 0, 1]), np.array([0, 1, 2, 4]), np.float32([0.6, 0.8]))
    >>> own_text_shares(texts, np.array([0, 1, 2, 3]), np.array([0, 0, 1]), np.arange(3), 2).round(3).tolist()
    [0.7070000171661377, 0.7070000171661377, 0.0]
    """
    shares = np.zeros(len(labels), np.float32)
    for block in relevant_texts(indptr, labels, rows, np.arange(n_labels), texts.lengths, work_of_label=1):
        # One range but where a single label has more than one may have: then its texts are read twice.
        ranges = list(bounded_ranges(texts.lengths(block.row), MOST_WORK))
        cells, vectors = np.empty(0, np.int64), np.empty(0)  # the labels' vectors, by label and token
        for first, last in ranges:
            entries = _entries(texts, block, first, last)
            cells, cell = np.unique(np.concatenate([cells, entries.cell]), return_inverse=True)
            vectors = _sums(cell, np.concatenate([vectors, entries.value]))
        squares = _sums(cells // texts.vocabulary_size, vectors**2, block.stop - block.start)
        for first, last in ranges:
            if len(ranges) > 1:
                entries = _entries(texts, block, first, last)
            own = vectors[np.searchsorted(cells, entries.cell)]
            shares[block.pair[first:last]] = _shares(entries, own, squares[block.place[first:last]])
        alone = np.bincount(block.place)[block.place] < 2
        shares[block.pair[alone]] = 0
    return shares


class _Entries(NamedTuple):
    """The entries of the texts of some pairs."""

    pair: NDArray[np.int64]  # (e,) from 0
    cell: NDArray[np.int64]  # (e,) label and token as one number
    value: NDArray[np.float32]  # (e,)


def _entries(texts: WeightedTexts | JoinedTexts, block: RelevantTexts, first: int, last: int) -> _Entries:
    """Of a block's pairs first to last."""
    bags = texts.bags(block.row[first:last])
    pair = np.repeat(np.arange(last - first), np.diff(bags.indptr))
    return _Entries(pair, block.place[first:last][pair] * texts.vocabulary_size + bags.indices, bags.data)


def _shares(entries: _Entries, vectors: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of n pairs, by their entries, their labels' vectors there (e,), and the squared norm of each one's label (n,)."""
    n = len(squares)
    inner = _sums(entries.pair, entries.value * vectors, n)  # x . v
    own = _sums(entries.pair, entries.value.astype(np.float64) ** 2, n)  # |x|^2
    rest = np.maximum(squares - 2 * inner + own, 0)  # |v - x|^2
    with_it = inner / np.sqrt(squares, where=squares > 0, out=np.ones(n))
    # Rounding leaves about 1e-7 of a vector that is x and nothing else.
    without = np.where(rest > 1e-6, (inner - own) / np.sqrt(np.maximum(rest, 1e-6)), 0)
    shares: NDArray[np.float64] = np.clip(with_it - np.maximum(without, 0), 0, 1)
    return shares


def _sums(place: NDArray[np.int64], values: NDArray[np.float64], least: int = 0) -> NDArray[np.float64]:
    """The sum of the values at each place, of ``least`` places at least."""
    return np.bincount(place, values, minlength=least).astype(np.float64, copy=False)
