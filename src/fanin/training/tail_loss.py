"""A batch's positives with what the recipe adds to them: by their labels' frequency, and by their own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.kernels.spec import Positives
from fanin.labels.tail import frequency_margins, propensity_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fanin.data.batches import Batch
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.recipes.recipe import EvaluationSection
    from fanin.training.own_text_margins import OwnTextMargins


class TailLoss:
    """Weights or margins of the labels' positives, or neither.

    Args:
        section: the classifier's settings.
        evaluation: holds the A and B of the propensity model.
        train_counts: (L,) training points of each label.
        train_points: N.
        own_text: margins of the single pairs, if the recipe has them.
    """

    def __init__(
        self,
        section: AnyClassifierSection,
        evaluation: EvaluationSection,
        train_counts: NDArray[np.int64],
        train_points: int,
        own_text: OwnTextMargins | None = None,
    ) -> None:
        self._own_text = own_text
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
        margins = None if self._margins is None else self._margins[indices]
        if self._own_text is not None:
            own = self._own_text.of(batch)
            margins = own if margins is None else margins + own
        weights = None if self._weights is None else self._weights[indices]
        return Positives(torch.from_numpy(batch.indptr), indices, weights, margins)
