"""Some of a layer's labels, as a few clusters for each row: what the exact stage of an approximate top-k scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class ChosenClusters(NamedTuple):
    """The labels to be scored for each row. Unit u holds the labels ``u * unit`` to ``(u + 1) * unit - 1`` below L.

    Members and bounds are taken on trust, as index sets are.

    >>> clusters = ChosenClusters(torch.tensor([2, 0, 1]).int(), torch.tensor([0, 2, 3]), torch.tensor([[0, -1]]), 4)
    >>> clusters.labels(0, 10).tolist()
    [0, 1, 2, 3, 8, 9]
    """

    members: Tensor  # (U,) int32, units; those of cluster c stand at bounds[c] to bounds[c + 1] - 1, each unit once
    bounds: Tensor  # (K + 1,) int64
    chosen: Tensor  # (B, b) int64 cluster numbers, no cluster twice in a row; -1 for none
    unit: int  # a multiple of the layer's group size

    def labels(self, row: int, count: int) -> Tensor:
        """The labels of a row, ascending, of a layer of ``count``."""
        clusters = self.chosen[row][self.chosen[row] >= 0]
        units = torch.cat([self.members[:0], *(self._units(int(cluster)) for cluster in clusters)])
        labels = (units.long()[:, None] * self.unit + torch.arange(self.unit, device=units.device)).flatten()
        return labels[labels < count].sort().values

    def _units(self, cluster: int) -> Tensor:
        return self.members[int(self.bounds[cluster]) : int(self.bounds[cluster + 1])]


class SharedVectors(NamedTuple):
    """What :class:`fanin.kernels.spec.SharedScores` are the products of: they are computed where a cluster is chosen.

    The labels of these clusters are consecutive: label l adds ``weight[l // cluster_size] @ x[:inputs]`` to its score.
    They have nothing to do with the chosen clusters.
    """

    weight: Tensor  # (ceil(L / cluster_size), inputs), of the dtype of the layer's weights
    cluster_size: int
