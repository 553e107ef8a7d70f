"""Spherical 2-means with fixed sizes on all nodes of one level of a hierarchy, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from fanin.labels.bounded_ranges import bounded_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features: TypeAlias = NDArray[np.float32] | NDArray[np.int8]

_ROW_BITS = 15
NODE_ROWS = 1 << _ROW_BITS
"""Members of the largest node worked on as a whole; the centres of a larger one are found on a sample of this many."""

BLOCK_ROWS = 8192
"""Members that several small nodes worked on together have at most: their features stay in cache."""

ITERATIONS = 12
_SETTLED = 0.002  # stop when a smaller share of the members changed sides
_PIECE = 1024  # members summed in one go, so that one large node is work for several threads
_SCORE_ROWS = 1024  # rows whose axes stay in cache
_TINY = 1e-12  # lengths below are taken for this one


def split_nodes(
    features: Features,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    middles: NDArray[np.int64],
    ends: NDArray[np.int64],
    random: np.random.Generator,
) -> None:
    """Reorder ``order[starts[k]:ends[k]]`` of every node k so that ``middles[k]`` parts it into two related halves.

    Scratch space is at most twice NODE_ROWS rows of float32; sums have an order that does not depend on the number of
    threads.

    Args:
        features: (L, dim) float32 or int8, finite; only the directions of its rows count.
        order: (L,) int64 label ids, changed in place.
        starts: (K,) first places of the nodes, ascending; nodes do not overlap.
        middles: (K,) places at which they are parted, with starts < middles < ends.
        ends: (K,) places behind their last members.
        random: source of the first centre of every node.
    """
    seeds = starts + (random.random(len(starts)) * (ends - starts)).astype(np.int64)
    for lo, hi in bounded_ranges(ends - starts, BLOCK_ROWS):
        if ends[lo] - starts[lo] > NODE_ROWS:
            _split_large(features, order[starts[lo] : ends[lo]], int(middles[lo] - starts[lo]), random)
            continue
        sizes = ends[lo:hi] - starts[lo:hi]
        offsets = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) + np.repeat(starts[lo:hi] - offsets, sizes)
        x = _unit_rows(features, order[places])
        node = np.repeat(np.arange(hi - lo), sizes)
        side = _TwoMeans(x, node, offsets, middles[lo:hi] - starts[lo:hi])
        ranked, _ = side.run(seeds[lo:hi] - starts[lo:hi] + offsets)
        order[places] = order[places[ranked]]


def _split_large(features: Features, members: NDArray[np.int64], left: int, random: np.random.Generator) -> None:
    """Split one node, a view of the order: centres from a sample, then all members ranked by them."""
    axis = _sampled_axis(features, members, left, random)
    scores = np.empty(len(members), np.float32)
    for start in range(0, len(members), BLOCK_ROWS):
        rows = _unit_rows(features, members[start : start + BLOCK_ROWS])
        scores[start : start + BLOCK_ROWS] = _scores(rows, axis, np.zeros(len(rows), np.int64))
    members[:] = members[np.argsort(-scores, kind="stable")]


def _sampled_axis(
    features: Features, members: NDArray[np.int64], left: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """The axis of one node, (1, dim), from NODE_ROWS of its members."""
    sample = np.sort(random.choice(len(members), NODE_ROWS, replace=False, shuffle=False))
    sample_left = np.clip(np.array([left * NODE_ROWS // len(members)]), 1, NODE_ROWS - 1)
    node = np.zeros(NODE_ROWS, np.int64)
    side = _TwoMeans(_unit_rows(features, members[sample]), node, np.zeros(1, np.int64), sample_left)
    return side.run(random.integers(NODE_ROWS, size=1))[1]


class _TwoMeans:
    """Spherical 2-means on the nodes of one block.

    Args:
        x: (n, dim) float32, rows of length 1 or 0.
        node: (n,) the node of every row, ascending.
        offsets: (K,) the first row of every node.
        left: (K,) how many of its rows go left.
    """

    def __init__(
        self, x: NDArray[np.float32], node: NDArray[np.int64], offsets: NDArray[np.int64], left: NDArray[np.int64]
    ) -> None:
        self._x, self._node = x, node
        # After sorting by node and score, the left rows of a node are the first `left` from its offset.
        self._is_left = np.arange(len(node)) - offsets[node] < left[node]  # (n,)
        self._left_offsets = np.cumsum(left) - left
        self._total = _segment_sums(x, np.arange(len(node)), offsets)  # (K, dim)

    def run(self, seeds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows in the order left to right within their nodes, (n,), and the axis of every node, (K, dim).

        The first split parts a node into the members nearest to the row ``seeds[k]`` and the others.
        """
        axis = self._x[seeds] - _normalised(self._total.copy())  # (K, dim)
        side = np.zeros(len(self._node), bool)
        for _ in range(ITERATIONS):
            ranked = ranked_in_nodes(_scores(self._x, axis, self._node), self._node)  # (n,)
            rows = ranked[self._is_left]
            before, side = side, np.zeros_like(side)
            side[rows] = True
            if np.count_nonzero(before != side) <= _SETTLED * len(side):
                break
            left = _segment_sums(self._x, rows, self._left_offsets)  # (K, dim)
            right = self._total - left
            axis = _normalised(left) - _normalised(right)
        return ranked, axis


def _scores(x: NDArray[np.float32], axis: NDArray[np.float32], node: NDArray[np.int64]) -> NDArray[np.float32]:
    """The product of every row with the axis of its node, (n,)."""
    scores = np.empty(len(x), np.float32)
    for start in range(0, len(x), _SCORE_ROWS):
        part = slice(start, start + _SCORE_ROWS)
        # Not a product of matrices: its last bits may depend on the number of threads.
        np.einsum("ij,ij->i", x[part], axis[node[part]], out=scores[part])
    return scores


def ranked_in_nodes(scores: NDArray[np.float32], node: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows by node, those of a node by falling score, those of one score in their order, (n,).

    >>> ranked_in_nodes(np.array([1, 2, -1, 3], np.float32), np.array([0, 0, 0, 1])).tolist()
    [1, 0, 2, 3]

    Args:
        scores: (n,) float32, finite, at most NODE_ROWS.
        node: (n,) the node of every row, below 65,536.
    """
    bits = (0 - scores).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    # One key of node, score and row: numpy sorts integers many times faster than it ranks by two keys.
    keys = (((node << 32) + rising) << _ROW_BITS) + np.arange(len(node))
    keys.sort()
    return keys & ((1 << _ROW_BITS) - 1)


def _segment_sums(x: NDArray[np.float32], rows: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sums of ``x[rows]`` over the segments that begin at ``starts`` (ascending, none empty), (K, dim)."""
    pieces = np.union1d(starts, np.arange(0, len(rows), _PIECE))
    sums = embedding_bag(torch.from_numpy(rows), torch.from_numpy(x), torch.from_numpy(pieces), mode="sum")
    return np.add.reduceat(sums.numpy(), np.searchsorted(pieces, starts), axis=0)


def _unit_rows(features: Features, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The features of some labels at length 1, (n, dim); zeros stay zeros."""
    return _normalised(features[labels].astype(np.float32, copy=False))


def _normalised(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of x at length 1, in place; zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", x, x))  # (n,)
    x /= np.maximum(lengths, _TINY)[:, None]
    return x
