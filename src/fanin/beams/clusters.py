"""Clusters for a beam: labels that a model finds best for the same texts lie together."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import normalize

from fanin.classifier.label_clusters import LabelClusters, unit_count, unit_size
from fanin.labels.clustering import balanced_clusters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fanin.classifier.sparse import SparsePart

_DIM = 128  # of the projected vectors that units are clustered by


class RelatedClusters(NamedTuple):
    """Clusters, and where to find a unit.

    Attributes:
        clusters: of all units; first those that hold a label that was best for some text.
        of_unit: (U,) int64, the cluster of every unit, those of all parts numbered through.
        routed: how many clusters hold a label that was best for some text.
    """

    clusters: LabelClusters
    of_unit: Tensor
    routed: int


def units_of_labels(parts: Sequence[SparsePart], labels: int) -> Tensor:
    """The unit of every label, (L,) int64, those of all parts numbered through; -1 for labels of dense layers."""
    units, first = torch.full((labels,), -1, dtype=torch.int64), 0
    for layer, own in parts:
        units[own] = first + torch.arange(len(own)) // unit_size(layer)
        first += unit_count(layer)
    return units


def related_clusters(
    parts: Sequence[SparsePart], inputs: Tensor, best: Tensor, cluster_labels: int, seed: int
) -> RelatedClusters:
    """Balanced clusters of the units that are best for some text; the others follow in the order of their places.

    Args:
        parts: of the classifier.
        inputs: (N, Q) float32, the texts' vectors.
        best: (N, k) int64, the units of each text's best labels, numbered through; -1 for none.
        cluster_labels: labels of a cluster, about; a cluster holds one unit at least.
        seed: of projection and clustering.
    """
    firsts = list(accumulate((unit_count(part.layer) for part in parts), initial=0))
    seen = torch.unique(best[best >= 0])  # (n,) ascending
    features = _unit_features(inputs, best, seen, seed)
    of_unit = torch.empty(firsts[-1], dtype=torch.int64)
    part_of_cluster: list[int] = []
    for i, part in enumerate(parts):
        inside = (seen >= firsts[i]) & (seen < firsts[i + 1])
        n = int(inside.sum())
        count = min(-(-n * unit_size(part.layer) // cluster_labels), n)
        if count:
            order = balanced_clusters(features[inside].numpy(), count, seed)
            of_unit[seen[inside]] = len(part_of_cluster) + torch.from_numpy(order.cluster_of_outer)
        part_of_cluster += [i] * count
    routed = len(part_of_cluster)
    unseen = torch.ones(firsts[-1], dtype=torch.bool)
    unseen[seen] = False
    for i, part in enumerate(parts):
        rest = firsts[i] + unseen[firsts[i] : firsts[i + 1]].nonzero().flatten()
        size = max(1, cluster_labels // unit_size(part.layer))
        of_unit[rest] = len(part_of_cluster) + torch.arange(len(rest)) // size
        part_of_cluster += [i] * -(-len(rest) // size)
    part_numbers = torch.tensor(part_of_cluster, dtype=torch.int64)
    clusters, order_of_units = of_unit.sort(stable=True)
    bounds = torch.searchsorted(clusters, torch.arange(len(part_of_cluster) + 1))
    members = order_of_units - torch.tensor(firsts)[part_numbers[clusters]]
    return RelatedClusters(LabelClusters(members.int(), bounds, part_numbers), of_unit, routed)


def _unit_features(inputs: Tensor, units: Tensor, seen: Tensor, seed: int) -> Tensor:
    """The direction of the sum of the texts that each of these units is among the best of, (n, dim) float32."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    dim = min(_DIM, inputs.shape[1])
    projection = torch.randn(inputs.shape[1], dim, generator=generator) / dim**0.5
    vectors = normalize((inputs - inputs.mean(0)) @ projection, dim=1)  # (N, dim)
    sums = torch.zeros(len(seen), dim)
    for column in units.T:
        valid = column >= 0
        sums.index_add_(0, torch.searchsorted(seen, column[valid].contiguous()), vectors[valid])
    return normalize(sums, dim=1)
