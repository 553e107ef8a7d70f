"""A data set's labels in the ids of a model, matched by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.feature_rows import FeatureSplit
from fanin.data.label_rows import LabelRows
from fanin.data.store import TokenizedSplit

if TYPE_CHECKING:
    from fanin.data.store import SplitStore
    from fanin.labels.vocabulary import LabelVocabulary


@dataclass(frozen=True)
class MatchedSplit:
    """A split whose labels are those of a model.

    Attributes:
        split: the rows; a label that the model does not know has an id from L on: relevant, never predicted.
        excluded: pairs that must not be predicted, of known labels only.
        label_count: L and the labels that the model does not know.
        unknown_labels: how many labels of the data set the model does not know.
        unknown_positives: how many of the split's (text, relevant label) pairs are of such labels.
    """

    split: TokenizedSplit | FeatureSplit
    excluded: LabelRows | None
    label_count: int
    unknown_labels: int
    unknown_positives: int


def match_labels(store: SplitStore, name: str, labels: LabelVocabulary) -> MatchedSplit:
    """Give the labels of a split the ids that their names have in ``labels``.

    Args:
        store: the data set.
        name: of the split.
        labels: the model's vocabulary of L names.

    Raises:
        DataError: there is no such split.
    """
    split = store.split(name)
    assert isinstance(split, TokenizedSplit | FeatureSplit)
    L = len(labels)
    id_of = labels.ids(store.vocabulary)  # (labels of the data set,)
    unknown = np.flatnonzero(id_of < 0)
    id_of[unknown] = L + np.arange(len(unknown))
    matched = id_of.astype(np.int32)[split.labels]  # (P,)
    excluded = store.excluded(name)
    return MatchedSplit(
        replace(split, labels=matched),
        None if excluded is None else _known_pairs(excluded.indptr, id_of[excluded.indices], L),
        L + len(unknown),
        len(unknown),
        int((matched >= L).sum()),
    )


def _known_pairs(indptr: np.ndarray, labels: np.ndarray, L: int) -> LabelRows:
    kept = labels < L
    before = np.concatenate([[0], np.cumsum(kept)])  # (P + 1,) kept pairs in front of each place
    return LabelRows(before[indptr], labels[kept].astype(np.int32), L)
