"""Clusters of labels that a search can choose among: runs of units, which never part a group or a shared vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fanin.errors import CheckpointError
from fanin.kernels.chosen_clusters import ChosenClusters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fanin.classifier.sparse import SparseLinear, SparsePart


def unit_size(layer: SparseLinear) -> int:
    """Labels of a unit: the smallest run of places that parts neither a group nor what shares a cluster's vector.

    >>> from fanin.classifier.sparse import SparseLinear
    >>> unit_size(SparseLinear(16, 1000, fan_in=4, group_size=4, cluster_size=6))
    12
    """
    shared = 1 if layer.clusters is None else layer.clusters.cluster_size
    groups = -(-layer.out_features // layer.group_size)
    return min(math.lcm(layer.group_size, shared), groups * layer.group_size)


def unit_count(layer: SparseLinear) -> int:
    """How many units a layer has; the last may be short."""
    return -(-layer.out_features // unit_size(layer))


@dataclass(frozen=True)
class LabelClusters:
    """Clusters of the units of a classifier's sparse parts; every unit is in one cluster, a cluster in one part.

    Attributes:
        members: (U,) int32, units by their number in their part, cluster after cluster.
        bounds: (K + 1,) int64: cluster c holds ``members[bounds[c]:bounds[c + 1]]``.
        part: (K,) int64, the part that a cluster belongs to.
    """

    members: Tensor
    bounds: Tensor
    part: Tensor

    @property
    def count(self) -> int:
        """K."""
        return len(self.part)

    def chosen(self, parts: Sequence[SparsePart], numbers: Tensor) -> list[ChosenClusters]:
        """The clusters ``numbers`` (B, b) int64 as those of each part."""
        if len(parts) == 1:
            return [ChosenClusters(self.members, self.bounds, numbers.contiguous(), unit_size(parts[0].layer))]
        own = self.part[numbers]  # (B, b)
        return [
            ChosenClusters(self.members, self.bounds, torch.where(own == i, numbers, -1), unit_size(part.layer))
            for i, part in enumerate(parts)
        ]

    def check(self, parts: Sequence[SparsePart]) -> None:
        """Raise CheckpointError unless these are clusters of the units of these parts."""
        members, bounds, part = self.members, self.bounds, self.part
        dtypes = members.dtype, bounds.dtype, part.dtype
        if dtypes != (torch.int32, torch.int64, torch.int64) or any(
            tensor.ndim != 1 for tensor in (members, bounds, part)
        ):
            raise CheckpointError("clusters must be vectors of int32, int64 and int64")
        fits = len(bounds) == len(part) + 1 and int(bounds[0]) == 0 and int(bounds[-1]) == len(members)
        if not fits or bool((bounds.diff() < 0).any()) or bool(((part < 0) | (part >= len(parts))).any()):
            raise CheckpointError("the bounds of the clusters do not fit their members or the classifier's parts")
        part_of_unit = part.repeat_interleave(bounds.diff())  # (U,)
        for i, sparse in enumerate(parts):
            own = members[part_of_unit == i].sort().values
            if not torch.equal(own, torch.arange(unit_count(sparse.layer), dtype=torch.int32)):
                raise CheckpointError(f"the clusters do not hold each unit of part {i} of the classifier once")
