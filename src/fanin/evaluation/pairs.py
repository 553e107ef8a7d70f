"""Pairs of a row and a label: which predictions are among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fanin.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NO_LABEL = -1
"""An empty place in a row of predictions."""


def pair_keys(indptr: ArrayLike, indices: ArrayLike, labels: int) -> NDArray[np.int64]:
    """``row * labels + label`` of every pair of a CSR structure, ascending, each once.

    Args:
        indptr: (B + 1,) ints.
        indices: (P,) ints, labels.
        labels: L.

    Raises:
        DataError: if the structure is broken or a label is not in [0, L).
    """
    starts = np.asarray(indptr, np.int64)
    columns = np.asarray(indices, np.int64)
    if (
        starts.ndim != 1
        or len(starts) < 1
        or starts[0] != 0
        or starts[-1] != len(columns)
        or (np.diff(starts) < 0).any()
    ):
        raise DataError(
            "relevant labels: indptr must rise from 0 to the number of pairs; rebuild it from the label file"
        )
    _check_range(columns, 0, labels, "relevant labels")
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.unique(rows * labels + columns)


def find_pairs(predicted: NDArray[np.int64], keys: NDArray[np.int64], labels: int) -> NDArray[np.bool_]:
    """Which predictions are among the pairs.

    The key keeps row and label apart: a prediction of label 3 for row 5 never matches the pair of row 3 and label 5.

    Args:
        predicted: (B, K) labels, -1 for an empty place.
        keys: (P,) from :func:`pair_keys`.
        labels: L.

    Returns:
        (B, K) bool, False for empty places.
    """
    wanted = np.arange(len(predicted))[:, None] * labels + predicted
    place = np.searchsorted(keys, wanted)
    found = np.zeros(predicted.shape, bool)
    if len(keys):
        found = keys[np.minimum(place, len(keys) - 1)] == wanted
    found &= predicted != NO_LABEL
    return found


def as_predictions(predicted: ArrayLike, rows: int, labels: int) -> NDArray[np.int64]:
    """Checks predictions (B, K) and gives them as int64.

    Raises:
        DataError: for another number of rows, a label not in [-1, L), or a label predicted twice for a row.
    """
    ranked = np.asarray(predicted)
    if ranked.ndim != 2 or len(ranked) != rows or not np.issubdtype(ranked.dtype, np.integer):
        raise DataError(
            f"predictions: expected integers of shape ({rows}, k), found {ranked.dtype} of shape {ranked.shape}; "
            "give one row of ranked labels for each row of relevant labels"
        )
    ranked = ranked.astype(np.int64, copy=False)
    _check_range(ranked, NO_LABEL, labels, "predictions")
    ascending = np.sort(ranked, axis=1)
    twice = (ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] != NO_LABEL)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise DataError(f"predictions: row {row} holds label {ascending[row, place]} twice; rank each label once")
    return ranked


def _check_range(found: NDArray[np.int64], lowest: int, labels: int, what: str) -> None:
    if found.size and (found.min() < lowest or found.max() >= labels):
        wrong = found.min() if found.min() < lowest else found.max()
        raise DataError(f"{what}: label {wrong} is not in [{lowest}, {labels}); were they made for another label set?")
