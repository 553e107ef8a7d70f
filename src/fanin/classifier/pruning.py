"""Which connections a rewiring removes: the weakest of each index set, or the weakest of the whole layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fanin.classifier.group_scores import BLOCK_VALUES, group_scores
from fanin.kernels.spec import compute_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from fanin.classifier.rewiring_modes import GroupScore, PruneScope
    from fanin.kernels.spec import Prune, SparseWeights

_HALF_BITS = 16


@dataclass(frozen=True)
class Pruning:
    """Chooses connections by magnitude.

    Args:
        scope: "set" removes the same share of every index set; "layer" removes as many in total, the weakest wherever
            they are, but never a set's last connection nor more of a set than can regrow.
        group_score: a slot's score is the mean or the largest absolute weight of the labels that share it.
    """

    scope: PruneScope = "set"
    group_score: GroupScore = "mean"

    def slots(
        self, layer: SparseWeights, prune: Prune, inputs: int, block_sets: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The slots to remove, block by block of index sets.

        The lower slot (and set) goes first among equals; a score that is not finite is never among the weakest. Each
        block's weights are read for the last time before it is given, so the caller may change them.

        Args:
            layer: the weights.
            prune: largest share a set (of the total, for the scope "layer"), and a threshold or None.
            inputs: regrown connections will read one of the first so many inputs.
            block_sets: sets in a block; by default what keeps a block's weights small. Never changes the result.

        Yields:
            The number of the block's first set, and (s, F) bool.
        """
        F = layer.weight.shape[1]
        step = block_sets or max(1, BLOCK_VALUES // (layer.group_size * F))
        blocks = [slice(start, start + step) for start in range(0, len(layer.index), step)]
        share = math.floor(prune.fraction * F)
        below = math.inf if prune.threshold is None else prune.threshold
        if self.scope == "set":
            for block in blocks:
                limit = _spare_inputs(layer.index[block], inputs).clamp_max(share)  # (s,)
                yield block.start, _weakest(self._scores(layer, block), limit, below)
            return
        total = sum(int(_spare_inputs(layer.index[block], inputs).clamp_max(share).sum()) for block in blocks)

        def candidates(block: slice) -> Tensor:
            """Scores as integers of the same order, (s, F); the largest one where a slot must stay."""
            scores = self._scores(layer, block).float()
            limit = _spare_inputs(layer.index[block], inputs).clamp_max(F - 1)
            free = _weakest(scores, limit, below)
            return torch.where(free, scores.view(torch.int32), torch.iinfo(torch.int32).max)

        cut, equals = _cut(lambda: map(candidates, blocks), total)
        for block in blocks:
            bits = candidates(block)
            equal = bits == cut
            number = equal.flatten().cumsum(0).view_as(bits)  # from 1, in the order of sets and slots
            yield block.start, (bits < cut) | (equal & (number <= equals))
            equals -= min(equals, int(equal.sum()))

    def _scores(self, layer: SparseWeights, block: slice) -> Tensor:
        """(s, F) float64."""
        sets = torch.arange(len(layer.index), device=layer.weight.device)[block]
        L, F = layer.weight.shape
        wide = compute_dtype(layer.weight.dtype)

        def sizes(labels: Tensor) -> Tensor:
            return layer.weight[labels].to(wide).abs()

        return group_scores(sets, layer.group_size, L, F, self.group_score, sizes, torch.float64)


def _spare_inputs(index: Tensor, inputs: int) -> Tensor:
    """How many of the first ``inputs`` inputs each set (s, F) does not read, (s,)."""
    return inputs - (index.to(torch.int64) < inputs).sum(1)


def _weakest(scores: Tensor, limit: Tensor, below: float) -> Tensor:
    """The ``limit`` (s,) smallest scores of each row (s, F) as far as they are less than ``below``, (s, F) bool."""
    rank = scores.argsort(dim=1, stable=True).argsort(dim=1)
    return (rank < limit[:, None]) & (scores < below)


def _cut(blocks: Callable[[], Iterable[Tensor]], count: int) -> tuple[int, int]:
    """The ``count``-th smallest of all values, and how many equal to it belong to the smallest ``count``.

    Two passes that count instead of sorting: by the upper half of the bits, then by the lower half of those that share
    the upper one. No array of all values exists.

    Args:
        blocks: gives all values, int32 and not negative, as often as it is asked; the largest int32 never counts.
        count: at least 0.
    """
    none = torch.iinfo(torch.int32).max
    upper = _histogram(bits[bits < none] >> _HALF_BITS for bits in blocks())
    count = min(count, int(upper.sum()))
    if not count:
        return 0, 0
    high = int(torch.searchsorted(upper.cumsum(0), count))
    before = int(upper[:high].sum())
    mask = (1 << _HALF_BITS) - 1
    lower = _histogram(bits[(bits < none) & (bits >> _HALF_BITS == high)] & mask for bits in blocks())
    low = int(torch.searchsorted(lower.cumsum(0), count - before))
    return high << _HALF_BITS | low, count - before - int(lower[:low].sum())


def _histogram(parts: Iterable[Tensor]) -> Tensor:
    total = torch.zeros(1 << _HALF_BITS, dtype=torch.int64)
    for part in parts:
        total += torch.bincount(part.flatten(), minlength=len(total)).cpu()
    return total
