"""Spherical 2-means with fixed sizes on all nodes of one level of a hierarchy, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.nn.functional import embedding_bag, normalize

from fanin.labels.bounded_ranges import bounded_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features: TypeAlias = NDArray[np.float32] | NDArray[np.int8]

BLOCK_ROWS = 32768
"""Members worked on at a time; the centres of a larger node are found on a sample of this many of its members."""

ITERATIONS = 12
_SETTLED = 0.002  # stop when a smaller share of the members changed sides
_PIECE = 1024  # members summed in one go, so that one large node is work for several threads
_SCORE_ROWS = 4096  # rows whose products stay in cache


def split_nodes(
    features: Features,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    middles: NDArray[np.int64],
    ends: NDArray[np.int64],
    random: np.random.Generator,
) -> None:
    """Reorder ``order[starts[k]:ends[k]]`` of every node k so that ``middles[k]`` parts it into two related halves.

    Scratch space is a few times BLOCK_ROWS rows of features; sums have an order that does not depend on the number of
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
        if ends[lo] - starts[lo] > BLOCK_ROWS:
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
    sample = np.sort(random.choice(len(members), BLOCK_ROWS, replace=False, shuffle=False))
    sample_left = np.clip(np.array([left * BLOCK_ROWS // len(members)]), 1, BLOCK_ROWS - 1)
    x = _unit_rows(features, members[sample])
    node = np.zeros(BLOCK_ROWS, np.int64)
    _, axis = _TwoMeans(x, node, np.zeros(1, np.int64), sample_left).run(random.integers(BLOCK_ROWS, size=1))
    del x
    scores = np.empty(len(members), np.float32)
    for start in range(0, len(members), BLOCK_ROWS):
        rows = _unit_rows(features, members[start : start + BLOCK_ROWS])
        scores[start : start + BLOCK_ROWS] = _scores(rows, axis, node[: len(rows)])
    members[:] = members[np.argsort(-scores, kind="stable")]


class _TwoMeans:
    """Spherical 2-means on the nodes of one block.

    Args:
        x: (n, dim) float32, rows of length 1 or 0.
        node: (n,) the node of every row, ascending.
        offsets: (K,) the first row of every node.
        left: (K,) how many of its rows go left.
    """

    def __init__(
        self, x: torch.Tensor, node: NDArray[np.int64], offsets: NDArray[np.int64], left: NDArray[np.int64]
    ) -> None:
        self._x, self._node = x, node
        # After sorting by node and score, the left rows of a node are the first `left` from its offset.
        self._is_left = np.arange(len(node)) - offsets[node] < left[node]  # (n,)
        self._left_offsets = np.cumsum(left) - left
        self._total = _segment_sums(x, np.arange(len(node)), offsets)  # (K, dim)

    def run(self, seeds: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
        """Rows in the order left to right within their nodes, (n,), and the axis of every node, (K, dim).

        The first split parts a node into the members nearest to the row ``seeds[k]`` and the others.
        """
        axis = self._x[torch.from_numpy(seeds)] - normalize(self._total, dim=1)  # (K, dim)
        side = np.zeros(len(self._node), bool)
        for _ in range(ITERATIONS):
            ranked = np.lexsort((-_scores(self._x, axis, self._node), self._node))  # (n,)
            rows = ranked[self._is_left]
            before, side = side, np.zeros_like(side)
            side[rows] = True
            if np.count_nonzero(before != side) <= _SETTLED * len(side):
                break
            left = _segment_sums(self._x, rows, self._left_offsets)  # (K, dim)
            axis = normalize(left, dim=1) - normalize(self._total - left, dim=1)
        return ranked, axis


def _scores(x: torch.Tensor, axis: torch.Tensor, node: NDArray[np.int64]) -> NDArray[np.float32]:
    """The product of every row with the axis of its node, (n,)."""
    nodes = torch.from_numpy(node)
    scores = torch.empty(len(x))
    for start in range(0, len(x), _SCORE_ROWS):
        part = slice(start, start + _SCORE_ROWS)
        torch.sum(x[part] * axis[nodes[part]], dim=1, out=scores[part])
    result: NDArray[np.float32] = scores.numpy()
    return result


def _segment_sums(x: torch.Tensor, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> torch.Tensor:
    """Sums of ``x[rows]`` over the segments that begin at ``starts`` (ascending, none empty), (K, dim)."""
    pieces = np.union1d(starts, np.arange(0, len(rows), _PIECE))
    sums = embedding_bag(torch.from_numpy(rows), x, torch.from_numpy(pieces), mode="sum")
    return torch.from_numpy(np.add.reduceat(sums.numpy(), np.searchsorted(pieces, starts), axis=0))


def _unit_rows(features: Features, labels: NDArray[np.int64]) -> torch.Tensor:
    """The features of some labels at length 1, (n, dim); zeros stay zeros."""
    x = torch.from_numpy(features[labels]).float()
    return normalize(x, dim=1, out=x)
