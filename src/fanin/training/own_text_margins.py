"""Margins that take out of each pair of training what its text itself has brought to a start from tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.data.batches import row_places
from fanin.data.extended_split import ExtendedSplit, joined
from fanin.data.store import TokenizedSplit
from fanin.encoders.bag import BagEncoder
from fanin.labels.own_text import own_text_shares
from fanin.recipes.classifier_recipe import FixedFanInSection
from fanin.training.token_start import weighted_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.data.batches import Batch
    from fanin.encoders.interface import Encoder
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.training.preparation import PreparedData


class OwnTextMargins:
    """The margin of every pair of a training text and its label.

    A start from tokens gives a label the words of the very texts that are then trained on, so nearly all of them look
    right at once and little is learned from them. With the margin, a pair counts as an unseen text would that is like
    this one (:func:`fanin.labels.own_text.own_text_shares`).

    Args:
        split: the training texts, perhaps with label names behind them, of which the labels' start is made.
        rows: (n,) those of which it is made, ascending; all others have no margin.
        token_weights: (V,) weight of each lexical feature.
        scale: margin of a text that has brought all of its score: the start's gain, or a share of it.
        n_labels: L.
    """

    def __init__(
        self,
        split: TokenizedSplit | ExtendedSplit,
        rows: NDArray[np.int64],
        token_weights: NDArray[np.float32],
        scale: float,
        n_labels: int,
    ) -> None:
        self._indptr = split.labels_indptr
        self._margins = own_text_shares(  # of the whole split's pairs
            weighted_texts(split, token_weights), self._indptr, split.labels, rows, n_labels
        )
        self._margins *= scale

    def of(self, batch: Batch) -> Tensor:
        """The margins of a batch's pairs, (P,); 0 for those of texts that are not of the split, behind its rows."""
        margins = np.zeros(len(batch.indices), np.float32)
        own = batch.rows < len(self._indptr) - 1
        margins[np.repeat(own, np.diff(batch.indptr))] = self._margins[row_places(self._indptr, batch.rows[own])[0]]
        return torch.from_numpy(margins)


def build_own_text_margins(
    section: AnyClassifierSection, data: PreparedData, encoder: Encoder
) -> OwnTextMargins | None:
    """The margins that the recipe asks for; None where it asks for none, or texts bring nothing to the start.

    Args:
        section: the classifier's settings.
        data: the rows trained on.
        encoder: has the lexical features that the start reads.
    """
    if not isinstance(section, FixedFanInSection) or section.start != "tokens" or not section.own_text_margin:
        return None
    if not data.known_by_texts:
        return None
    split, rows = joined(data.label_sources())
    assert isinstance(encoder, BagEncoder), "the recipe is checked for it"
    assert isinstance(split, TokenizedSplit | ExtendedSplit)
    weights = encoder.token_weights[: encoder.lexical_features].numpy()
    scale = section.own_text_margin * section.start_gain
    return OwnTextMargins(split, rows, weights, scale, data.store.n_labels)
