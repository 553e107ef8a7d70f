"""Features of labels: what the texts they are relevant to have in common.

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
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK_ROWS = 16_384
"""Texts whose vectors are added at a time."""

SUMMED_VALUES = 1 << 24
"""Of the labels summed at a time: 64 MB of float32."""

_LARGEST = 127


def label_features(
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    dim: int,
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    n_labels: int,
    *,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """The direction of the sum of the vectors of every label's texts.

    A byte a feature keeps directions well enough to cluster by: 3 million labels of 256 features take 0.77 GB. Where
    not all labels can be summed at once the rest of their texts' vectors are asked for again.

    >>> texts = np.array([[3, 0], [0, 4]], np.float32)
    >>> indptr, labels = np.array([0, 1, 3]), np.array([0, 0, 2])
    >>> label_features(lambda rows: texts[rows], 2, indptr, labels, n_labels=3)
    array([[ 95, 127],
           [  0,   0],
           [  0, 127]], dtype=int8)

    Args:
        vectors: gives the vectors (n, dim) float32 of some texts (n,), such as TF-IDF vectors, encoder outputs or
            features that are there already.
        dim: features of a vector.
        indptr: (N + 1,) from 0; the positives of text i are ``labels[indptr[i]:indptr[i + 1]]``.
        labels: (P,) label ids below L.
        n_labels: L.
        rows: (n,) the texts to use, such as those trained on; by default all.

    Returns:
        (L, dim) int8; the largest value of a row has the size 127. Rows of zeros for labels without positives.

    Raises:
        DataError: vectors are not of ``dim`` features, or hold a number that is not finite.
    """
    rows = np.arange(len(indptr) - 1) if rows is None else rows
    result = np.zeros((n_labels, dim), np.int8)
    at_a_time = max(1, SUMMED_VALUES // dim)
    for first in range(0, n_labels, at_a_time):
        sums = np.zeros((min(at_a_time, n_labels - first), dim), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            row, label = gather(labels, indptr, part)
            own = (label >= first) & (label < first + len(sums))
            relevant, row = np.unique(row[own], return_inverse=True)
            if len(relevant):
                _add(sums, _checked(vectors(part[relevant]), dim), row, label[own] - first)
        result[first : first + len(sums)] = _in_bytes(sums)
    return result


def _add(sums: NDArray[np.float32], x: NDArray[np.float32], row: NDArray[np.int64], place: NDArray[np.int64]) -> None:
    """Add row ``row[i]`` of x to the sum at ``place[i]``, for all i."""
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    # One bag a label: the sums have one order, whatever the number of threads.
    bags = embedding_bag(torch.from_numpy(row[order]), torch.from_numpy(x), torch.from_numpy(starts), mode="sum")
    sums[ordered[starts]] += bags.numpy()


def _checked(x: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    if x.ndim != 2 or x.shape[1] != dim:
        raise DataError(f"vectors must have {dim} features, got an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"the vector of row {int(np.argmin(np.isfinite(x).all(1)))} of the batch is not finite")
    return x


def _in_bytes(sums: NDArray[np.float32]) -> NDArray[np.int8]:
    """The rows scaled to a largest value of 127; changes them."""
    result = np.empty(sums.shape, np.int8)
    for start in range(0, len(sums), BLOCK_ROWS):
        part = sums[start : start + BLOCK_ROWS]
        largest = np.abs(part).max(axis=1, keepdims=True)
        part *= _LARGEST / np.where(largest > 0, largest, 1)
        result[start : start + len(part)] = np.rint(part)
    return result
