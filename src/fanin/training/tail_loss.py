"""The recipe's tail-aware loss: a batch's positives with what their labels' frequency adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.kernels.spec import Positives
from fanin.labels.tail import frequency_margins, propensity_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fanin.data.batches import Batch
    from fanin.training.classifier_recipe import AnyClassifierSection
    from fanin.training.recipe import EvaluationSection


class TailLoss:
    """Weights or margins of the labels' positives, or neither.

    Args:
        section: the classifier's settings.
        evaluation: holds the A and B of the propensity model.
        train_counts: (L,) training points of each label.
        train_points: N.
    """

    def __init__(
        self,
        section: AnyClassifierSection,
        evaluation: EvaluationSection,
        train_counts: NDArray[np.int64],
        train_points: int,
    ) -> None:
        self._weights = self._margins = None  # (L,) float32
        match section.tail:
            case "propensity":
                a, b = evaluation.propensity_a, evaluation.propensity_b
                weights = propensity_weights(train_counts, train_points, section.tail_strength, a, b)
                self._weights = torch.from_numpy(weights)
            case "margin":
                self._margins = torch.from_numpy(frequency_margins(train_counts, section.tail_strength))

    def positives(self, batch: Batch) -> Positives:
        """The batch's positives."""
        indices = torch.from_numpy(batch.indices)
        return Positives(
            torch.from_numpy(batch.indptr),
            indices,
            None if self._weights is None else self._weights[indices],
            None if self._margins is None else self._margins[indices],
        )
