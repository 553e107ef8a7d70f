"""Head, middle and tail labels: those that hold the first, second and last third of the training positives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

GROUP_NAMES = ("head", "middle", "tail")


def label_groups(train_counts: ArrayLike) -> NDArray[np.int8]:
    """The group of every label: 0 head, 1 middle, 2 tail.

    Labels are ordered by training frequency, the lower label first among equals; a label belongs to the third of the
    positives in which its own begin. Labels without training positives are tail labels.

    Args:
        train_counts: (L,) training points of each label.

    Returns:
        (L,) int8.

    Example:
        >>> label_groups([1, 6, 2, 3, 0]).tolist()
        [2, 0, 2, 1, 2]
    """
    counts = np.asarray(train_counts, np.int64)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), np.int8)
    groups[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    groups[counts == 0] = 2
    return groups


def most_frequent(train_counts: ArrayLike, count: int) -> NDArray[np.int64]:
    """The ``count`` labels with the most training points, the lower label first among equals; ascending.

    Args:
        train_counts: (L,) training points of each label.
        count: how many, at most L.

    Example:
        >>> most_frequent([1, 6, 2, 6, 0], 3).tolist()
        [1, 2, 3]
    """
    order = np.argsort(-np.asarray(train_counts, np.int64), kind="stable")
    return np.sort(order[:count])
