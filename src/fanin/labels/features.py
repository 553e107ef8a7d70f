"""Dense features of labels: what the texts they are relevant to, and their names, have in common.

PIFA, "positive instances feature aggregation": a label is the normalised sum of its positives' vectors (Prabhu et al.,
Parabel, WWW 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from fanin.errors import DataError
from fanin.labels.text_vectors import gather

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fanin.labels.text_vectors import TextProjection

DEFAULT_NAME_WEIGHT = 0.1
"""Larger weights loosened clusters by what their labels share in use (EURLEX57K, GutenbergLCSH)."""

_BLOCK_ROWS = 16384


class PositiveSums:
    """Sums of vectors over the positives of every label, filled batch by batch.

    >>> sums = PositiveSums(n_labels=3, dim=2)
    >>> sums.add(np.array([[3, 0], [0, 4]], np.float32), np.array([0, 1, 3]), np.array([0, 0, 2]))
    >>> sums.finish()
    array([[0.6, 0.8],
           [0. , 0. ],
           [0. , 1. ]], dtype=float32)

    Args:
        n_labels: L.
        dim: features of a vector.
    """

    def __init__(self, n_labels: int, dim: int) -> None:
        self._sums = np.zeros((n_labels, dim), np.float32)

    def add(self, x: NDArray[np.float32], indptr: NDArray[np.int64], labels: NDArray[np.integer]) -> None:
        """Add a batch: row i of ``x`` to the labels ``labels[indptr[i]:indptr[i + 1]]``.

        Args:
            x: (B, dim) float32, e.g. TF-IDF vectors, encoder outputs or precomputed features.
            indptr: (B + 1,) from 0.
            labels: (P,) label ids below L.

        Raises:
            DataError: ``x`` is not of ``dim`` features, or holds a number that is not finite.
        """
        if x.ndim != 2 or x.shape[1] != self._sums.shape[1]:
            raise DataError(f"vectors must have {self._sums.shape[1]} features, got an array of shape {x.shape}")
        if not np.isfinite(x).all():
            raise DataError(f"the vector of row {int(np.argmin(np.isfinite(x).all(1)))} of the batch is not finite")
        if not len(labels):
            return
        row = np.repeat(np.arange(len(x)), np.diff(indptr))  # (P,)
        order = np.argsort(labels, kind="stable")
        ordered = labels[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        # One bag a label: the sums have one order, whatever the number of threads.
        bags = embedding_bag(
            torch.from_numpy(row[order]), torch.from_numpy(x), torch.from_numpy(starts), mode="sum"
        )  # (distinct labels, dim)
        self._sums[ordered[starts]] += bags.numpy()

    def finish(self) -> NDArray[np.float32]:
        """The sums at length 1, (L, dim) float32; zeros for labels without positives. The object is then used up."""
        return _normalise(self._sums)


def label_text_features(
    projection: TextProjection,
    tokens: NDArray[np.integer],
    offsets: NDArray[np.int64],
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    n_labels: int,
    *,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """PIFA on the projected TF-IDF vectors of tokenised texts.

    >>> from fanin.labels.text_vectors import TextProjection
    >>> tokens, offsets, indptr = np.array([0, 1, 1, 2]), np.array([0, 2, 4]), np.array([0, 1, 2])
    >>> projection = TextProjection(tokens, offsets, vocabulary_size=3, dim=4)
    >>> features = label_text_features(projection, tokens, offsets, indptr, np.array([0, 2]), n_labels=3)
    >>> np.linalg.norm(features, axis=1).round(3).tolist()
    [1.0, 0.0, 1.0]

    Args:
        projection: made on these texts.
        tokens: (T,) token ids of the texts, one text behind the other.
        offsets: (N + 1,) text i owns ``tokens[offsets[i]:offsets[i + 1]]``.
        indptr: (N + 1,) and its positives are ``labels[indptr[i]:indptr[i + 1]]``.
        labels: (P,) label ids below L.
        n_labels: L.
        rows: the texts to use, e.g. those trained on; by default all.

    Returns:
        (L, dim) float32, rows of length 1, or zeros for labels without positives.
    """
    rows = np.arange(len(offsets) - 1) if rows is None else rows
    sums = PositiveSums(n_labels, projection.dim)
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = rows[start : start + _BLOCK_ROWS]
        _, positives = gather(labels, indptr, part)
        part_indptr = np.concatenate([[0], np.cumsum(indptr[part + 1] - indptr[part])])
        sums.add(projection.vectors(tokens, offsets, part), part_indptr, positives)
    return sums.finish()


def with_names(
    features: NDArray[np.float32], names: NDArray[np.float32], weight: float = DEFAULT_NAME_WEIGHT
) -> NDArray[np.float32]:
    """Add the vectors of the labels' names to their features.

    >>> with_names(np.array([[1, 0], [0, 0]], np.float32), np.array([[0, 1], [0, 2]], np.float32), weight=1).round(2)
    array([[0.71, 0.71],
           [0.  , 1.  ]], dtype=float32)

    Args:
        features: (L, dim) float32, rows of length 1 or 0; changed in place.
        names: (L, dim) float32 from the same :class:`~fanin.labels.text_vectors.TextProjection`; only directions count.
        weight: of the names, beside 1 for the features; 0.1 by default. Labels without positives rest on their names at
            any weight above 0.

    Returns:
        (L, dim) float32, rows of length 1; zeros where a label has neither positives nor a name with tokens.
    """
    for start in range(0, len(features), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        features[part] += weight * _normalise(names[part].copy())
    return _normalise(features)


def _normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1 in place; zeros stay zeros."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = vectors[start : start + _BLOCK_ROWS]
        length = np.linalg.norm(part, axis=1, keepdims=True)
        part /= np.where(length > 0, length, 1)
    return vectors
