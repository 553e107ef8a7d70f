"""Approximate top-k in two stages: a router chooses a few clusters of labels, whose labels are scored exactly.

The idea of label trees with a beam (Prabhu et al., Parabel, WWW 2018) for a layer that is already trained: what the
router is taught is which clusters hold the layer's own best labels (:mod:`fanin.beams.building`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fanin.classifier.router import router_inputs
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.positives import row_range

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.classifier.label_clusters import LabelClusters
    from fanin.classifier.router import Router
    from fanin.kernels.spec import Positives

_DENSE_VALUES = 1 << 24  # of an x that is written out at a time: 64 MB


@dataclass(frozen=True)
class Beam:
    """The first stage of an approximate top-k, and how many clusters it is meant to choose.

    Attributes:
        clusters: K clusters of all labels that a sparse part serves.
        router: scores the first R clusters. Those behind held none of the best labels of any text; they are chosen
            after all others, by their numbers.
        fold: None where the router reads all of a dense x. Else (D - D0,) int32, not 0, for inputs behind the first D0
            that are mostly zero: input D0 + i adds its value, with the sign of ``fold[i]``, to sum ``|fold[i]| - 1`` of
            Q - D0 (feature hashing: Weinberger et al., ICML 2009).
        width: clusters a row; with K or more the result is the exact one.
    """

    clusters: LabelClusters
    router: Router
    fold: Tensor | None
    width: int

    def choose(self, x: Tensor | ActiveInputs) -> Tensor:
        """The best clusters of each row, (B, min(width, K)) int64, in no order.

        Raises:
            ConfigError: the width is below 1.
        """
        if self.width < 1:
            raise ConfigError(f"a beam of {self.width} clusters: it must hold at least 1")
        inputs = router_inputs(x, self.fold)
        if self.width < len(self.router):
            return self.router.best(inputs, self.width)
        return torch.arange(min(self.width, self.clusters.count)).expand(len(inputs), -1)

    def topk(
        self,
        classifier: Classifier,
        x: Tensor | ActiveInputs,
        k: int,
        exclude: Positives | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row among those of the chosen clusters, as :meth:`Classifier.topk` gives them.

        Args:
            classifier: the layer that this was made for.
            x: (B, D), or its active columns.
            k: how many labels.
            exclude: pairs that must not be returned.

        Raises:
            ConfigError: as :meth:`Classifier.topk`, or the width is below 1.
        """
        if self.width >= self.clusters.count:
            return classifier.topk(x, k, exclude)
        parts, numbers = classifier.sparse_parts(), self.choose(x)
        size = max(1, _DENSE_VALUES // classifier.in_features)
        found = [
            classifier.topk_among(
                _dense_rows(x, part),
                k,
                self.clusters.chosen(parts, numbers[part]),
                None if exclude is None else row_range(exclude, part),
            )
            for part in (slice(start, start + size) for start in range(0, max(len(numbers), 1), size))
        ]
        return torch.cat([scores for scores, _ in found]), torch.cat([labels for _, labels in found])


def _dense_rows(x: Tensor | ActiveInputs, part: slice) -> Tensor:
    return x._replace(values=x.values[part]).dense() if isinstance(x, ActiveInputs) else x[part]
