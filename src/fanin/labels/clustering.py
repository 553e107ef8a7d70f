"""Balanced clusters of related labels, and the internal order of labels that makes every cluster a range.

Spherical 2-means, level by level: every node of a level is split at a size fixed in advance, members being ranked by
how much nearer they are to one centre than to the other (Parabel: Prabhu et al., WWW 2018, who split into halves).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fanin.errors import ConfigError, DataError
from fanin.labels.two_means import split_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fanin.labels.two_means import Features

ALIGNED_CLUSTERS = 64
"""Runs of 2, 4, ... up to this many clusters that start at a multiple of their number are nodes of the hierarchy."""

_CHECK_ROWS = 65536


@dataclass(frozen=True)
class LabelOrder:
    """An internal order of the labels in which every cluster is a range.

    >>> order = LabelOrder(np.array([2, 0, 1]), np.array([0, 2, 3]))
    >>> len(order), order.n_clusters, order.inner_of_outer.tolist(), order.cluster_of_outer.tolist()
    (3, 2, [1, 2, 0], [0, 1, 0])

    Attributes:
        outer_of_inner: (L,) int64, a permutation: the outer label id at every inner place.
        bounds: (K + 1,) int64; cluster k holds the inner places ``bounds[k]`` to ``bounds[k + 1] - 1``.
    """

    outer_of_inner: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        """L, the number of labels."""
        return len(self.outer_of_inner)

    @property
    def n_clusters(self) -> int:
        """K, the number of clusters."""
        return len(self.bounds) - 1

    @cached_property
    def inner_of_outer(self) -> NDArray[np.int64]:
        """(L,) int64: the inner place of every outer label id."""
        inverse = np.empty_like(self.outer_of_inner)
        inverse[self.outer_of_inner] = np.arange(len(self))
        return inverse

    @cached_property
    def cluster_of_outer(self) -> NDArray[np.int64]:
        """(L,) int64: the cluster of every outer label id."""
        clusters = np.empty_like(self.outer_of_inner)
        clusters[self.outer_of_inner] = np.repeat(np.arange(self.n_clusters), np.diff(self.bounds))
        return clusters


def balanced_clusters(features: Features, count: int, seed: int = 0) -> LabelOrder:
    """``count`` clusters of related labels whose sizes are within one of another.

    Extra memory is O(L) and a fixed scratch space; the result depends on the features and the seed alone.

    >>> features = np.array([[1, 0], [0, 1], [0.9, 0], [0, 2]], np.float32)
    >>> order = balanced_clusters(features, 2)
    >>> order.cluster_of_outer[0] == order.cluster_of_outer[2], order.bounds.tolist()
    (np.True_, [0, 2, 4])

    Args:
        features: (L, dim) float32 or int8, a row a label, of any length: only directions count. Rows of zeros stand
            for labels of which nothing is known and go where sizes need them.
        count: number of clusters, at most L.
        seed: fixes the random choices.

    Returns:
        The order and the bounds of its clusters.

    Raises:
        ConfigError: ``count`` is below 1 or above L.
        DataError: the features are not a matrix with a row a label, or not all of them are finite.
    """
    L = _check_features(features)
    if not 1 <= count <= L:
        raise ConfigError(f"cannot make {count} clusters of {L} labels; ask for a number in 1..{L}")
    bounds = np.arange(count + 1, dtype=np.int64) * L // count
    return LabelOrder(_ordered(features, np.arange(L), bounds, 1, seed), bounds)


def grouped_labels(features: Features, labels: NDArray[np.int64], group_size: int, seed: int = 0) -> NDArray[np.int64]:
    """An order of some labels in which every ``group_size`` of them in a row are related; the last group may be short.

    Neighbouring groups are related too: 2, 4, ..., 64 of them in a row that start at a multiple of their number are one
    cluster of the level above, so that with groups of 16 every four make a group of 64.

    >>> grouped_labels(np.eye(5, dtype=np.float32), np.array([1, 3]), 1).tolist() in ([1, 3], [3, 1])
    True

    Args:
        features: (L, dim) of all labels, as in :func:`balanced_clusters`.
        labels: (n,) the labels to order, at least one.
        group_size: G; with G >= n there is one group.
        seed: fixes the random choices.

    Returns:
        (n,) int64.

    Raises:
        ConfigError: ``group_size`` is below 1.
        DataError: the features are not a matrix with a row a label, or not all of them are finite.
    """
    _check_features(features)
    if group_size < 1:
        raise ConfigError(f"group size {group_size} must be at least 1")
    n = len(labels)
    count = -(-n // group_size)
    bounds = np.minimum(np.arange(count + 1, dtype=np.int64) * min(group_size, n), n)
    return _ordered(features, labels.copy(), bounds, ALIGNED_CLUSTERS, seed)


def _ordered(
    features: Features, order: NDArray[np.int64], bounds: NDArray[np.int64], aligned: int, seed: int
) -> NDArray[np.int64]:
    """The order with ranges of clusters split, from all of them down to single ones; labels move within their range."""
    first = np.zeros(1, np.int64)  # the range of clusters of every node of this level
    last = np.array([len(bounds) - 1])
    level = 0
    while True:
        splittable = last - first > 1
        first, last = first[splittable], last[splittable]
        if not len(first):
            return order
        middle = first + _left_clusters(last - first, aligned)
        random = np.random.default_rng([seed, level])
        split_nodes(features, order, bounds[first], bounds[middle], bounds[last], random)
        first, last = np.stack([first, middle], 1).ravel(), np.stack([middle, last], 1).ravel()
        level += 1


def _left_clusters(n: NDArray[np.int64], aligned: int) -> NDArray[np.int64]:
    """How many of a node's n >= 2 clusters go left, (K,).

    About half, as a multiple of the largest power of two that is below n and at most ``aligned``.
    """
    step = np.minimum(2 ** np.floor(np.log2(n - 1)).astype(np.int64), aligned)
    halves: NDArray[np.int64] = np.maximum((n // 2 + step // 2) // step, 1) * step
    return halves


def _check_features(features: Features) -> int:
    """L, of features that are fit for clustering."""
    if features.ndim != 2 or not features.size:
        raise DataError(f"label features must be a matrix with a row a label, got an array of shape {features.shape}")
    if features.dtype == np.int8:
        return len(features)
    if features.dtype != np.float32:
        raise DataError(f"label features must be float32 or int8, got {features.dtype}; convert them")
    for start in range(0, len(features), _CHECK_ROWS):
        finite = np.isfinite(features[start : start + _CHECK_ROWS]).all(1)
        if not finite.all():
            raise DataError(f"the features of label {start + int(np.argmin(finite))} are not finite numbers")
    return len(features)
