"""Labels by training frequency: head, middle and tail, and bands of given shares of the labels."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def band_sizes(labels: int, shares: Sequence[float]) -> list[int]:
    """How many labels bands of such shares of all labels have, and behind them the rest, which has one at least.

    Args:
        labels: L, at least 1.
        shares: adding up to less than 1.

    Example:
        >>> band_sizes(1000, [0.01, 0.2]), band_sizes(3, [0.01, 0.98])
        ([10, 200, 790], [0, 2, 1])
    """
    ends = [min(round(total * labels), labels - 1) for total in accumulate(shares)]
    return [end - start for start, end in pairwise([0, *ends, labels])]


def frequency_bands(train_counts: ArrayLike, sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """The labels of every band, the most frequent ones in the first; the lower label is the more frequent among equals.

    Args:
        train_counts: (L,) training points of each label.
        sizes: labels of every band, L in all.

    Returns:
        Their labels, ascending in each.

    Example:
        >>> [band.tolist() for band in frequency_bands([1, 6, 2, 6, 0], [3, 2])]
        [[1, 2, 3], [0, 4]]
    """
    order = np.argsort(-np.asarray(train_counts, np.int64), kind="stable")
    return [np.sort(band) for band in np.split(order, np.cumsum(sizes)[:-1])]
