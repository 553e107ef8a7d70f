"""The auxiliary objective: for a while a dense classifier of label clusters helps the gradient into the encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sharded import ShardedClassifier
from fanin.data.batches import gather_rows
from fanin.kernels.spec import Loss, Positives
from fanin.processes.group import ALONE

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fanin.classifier.interface import Classifier
    from fanin.data.batches import Split
    from fanin.kernels.spec import Update
    from fanin.processes.group import Processes

_COUNT_ROWS = 65_536


class AuxiliaryObjective:
    """A dense classifier of clusters of related labels, trained beside the classifier of labels on the same x.

    A text is relevant for the clusters of its labels. With a share s the loss of a step is ``(1 - s) * loss + s *
    auxiliary loss``, the latter always the binary cross-entropy. s starts at ``scale`` and is zero after the cut-off;
    to have it on for the whole run is worse than to have none (Ullah et al., "Navigating Extremes", NeurIPS 2024).

    Memory for K clusters: 12 D K bytes with AdamW for weights and state, until this object is dropped.

    Args:
        cluster_of_label: (L,) int64, the cluster of every label, all of 0 to K - 1.
        in_features: D, learned features; the first ones of x are read, lexical ones behind them are not.
        bias: (K,) where the clusters' biases start.
        scale: s at the first step.
        cutoff: the last step at which s is above zero.
        decay: "cosine" lets s fall along half a cosine, to zero at the step behind the cut-off; "none" keeps it.
        processes: that share the clusters.

    Attributes:
        classifier: x to scores of K clusters; its weights start at zero.
        cluster_of_label: (L,) int64.

    Example:
        >>> import torch
        >>> objective = AuxiliaryObjective(torch.tensor([0, 0, 1]), 4, torch.zeros(2), scale=0.4, cutoff=2)
        >>> [round(objective.share(step), 3) for step in (1, 2, 3, 4)]
        [0.4, 0.2, 0.0, 0.0]
    """

    def __init__(
        self,
        cluster_of_label: torch.Tensor,
        in_features: int,
        bias: torch.Tensor,
        *,
        scale: float,
        cutoff: int,
        decay: Literal["cosine", "none"] = "cosine",
        processes: Processes = ALONE,
    ) -> None:
        self.classifier: Classifier
        if processes.size == 1:
            self.classifier = DenseLinear(in_features, len(bias), initial_scale=0.0)
        else:
            whole = DenseLinear(in_features, len(bias), initial_scale=0.0, device="meta")
            self.classifier = ShardedClassifier(whole, processes, ", or ask for more auxiliary.clusters")
        self.classifier.set_bias(bias)
        self.cluster_of_label = cluster_of_label
        self._scale, self._cutoff, self._decay = scale, cutoff, decay

    def to(self, device: torch.device) -> None:
        """Move the classifier of clusters, its state, and which cluster a label belongs to."""
        self.classifier.to(device)
        self.cluster_of_label = self.cluster_of_label.to(device)

    def share(self, step: int) -> float:
        """S of a step, counted from 1."""
        if step > self._cutoff:
            return 0.0
        if self._decay == "none":
            return self._scale
        return self._scale * (1 + math.cos(math.pi * (step - 1) / self._cutoff)) / 2

    def train_step(
        self, x: torch.Tensor, positives: Positives, share: float, update: Update
    ) -> tuple[float, torch.Tensor]:
        """One step of the clusters' classifier; updates it in place.

        Args:
            x: (B, D) or more; the first D columns are read.
            positives: the batch's labels.
            share: s, above zero.
            update: the update rule.

        Returns:
            The auxiliary loss, summed over clusters and averaged over the batch, not multiplied by s; and the gradient
            of ``s * loss`` by the learned features, (B, D).
        """
        learned = x[:, : self.classifier.in_features]
        clusters = Positives(positives.indptr, self.cluster_of_label[positives.indices])
        loss, dx = self.classifier.train_step(learned, clusters, Loss.BCE, update, weight=share)
        return loss / share, dx


def cluster_points(
    split: Split, rows: NDArray[np.int64], cluster_of_label: NDArray[np.int64], clusters: int
) -> NDArray[np.int64]:
    """How many texts have a label of each cluster, (K,).

    Args:
        split: the training texts' labels.
        rows: (n,) the rows trained on.
        cluster_of_label: (L,).
        clusters: K.
    """
    points = np.zeros(clusters, np.int64)
    for start in range(0, len(rows), _COUNT_ROWS):
        labels, indptr = gather_rows(split.labels, split.labels_indptr, rows[start : start + _COUNT_ROWS])
        texts = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        pairs = np.unique(texts * clusters + cluster_of_label[labels])
        points += np.bincount(pairs % clusters, minlength=clusters)
    return points
