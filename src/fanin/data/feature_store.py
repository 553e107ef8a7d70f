"""Splits of a data set whose texts are given as features, checked before anything is computed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.feature_rows import DenseFeatures, FeatureSplit
from fanin.data.features import check_finite, open_features
from fanin.data.sparse_features import read_sparse_features
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fanin.data.dataset import Dataset
    from fanin.data.feature_rows import SparseFeatures
    from fanin.data.label_rows import LabelRows
    from fanin.labels.vocabulary import LabelVocabulary


def read_features(path: Path) -> DenseFeatures | SparseFeatures:
    """The features in a file, checked: dense ones of a ``.npy`` file, memory-mapped, else sparse rows.

    Raises:
        DataError: the file is faulty, or a value is not finite.
    """
    if path.suffix.lower() != ".npy":
        return read_sparse_features(path)
    features = DenseFeatures(open_features(path))
    for _ in check_finite(features.values, str(path)):
        pass
    return features


class FeatureStore:
    """The splits of a data set with features; dense ones stay in their files, sparse ones are held in memory.

    Args:
        dataset: what to read.
        progress: called with (rows done, rows in all) while dense features are checked.
        splits: those to open, by default all.

    Attributes:
        split_names: the splits that are open, in the order train, dev, test.
        columns: D0, the number of features.
        sparse: whether they are sparse.

    Raises:
        DataError: there are no features, a file is faulty, or the splits do not fit each other.
    """

    def __init__(
        self,
        dataset: Dataset,
        progress: Callable[[int, int], None] | None = None,
        splits: Sequence[str] | None = None,
    ) -> None:
        self._dataset = dataset
        self.split_names = dataset.split_names if splits is None else tuple(splits)
        found = {split: dataset.features(split) for split in self.split_names}
        self._features = found
        first = found[self.split_names[0]]
        self.columns, self.sparse = first.columns, not isinstance(first, DenseFeatures)
        for split, features in found.items():
            if features.columns != self.columns:
                raise DataError(
                    f"{dataset.path}: the {split} split has {features.columns} features and the {self.split_names[0]} "
                    f"split {self.columns}; both must be the same features"
                )
        total, before = sum(map(len, found.values())), 0
        for features in found.values():
            if isinstance(features, DenseFeatures):
                source = str(getattr(features.values, "filename", dataset.path))
                for done in check_finite(features.values, source):
                    if progress is not None:
                        progress(before + done, total)
                before += len(features)

    @property
    def n_labels(self) -> int:
        """L, the number of labels."""
        return len(self.vocabulary)

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels."""
        return self._dataset.vocabulary

    def split(self, name: str) -> FeatureSplit:
        """The rows of one split.

        Raises:
            DataError: there is no such split.
        """
        positives = self._dataset.positives(name)
        return FeatureSplit(self._features[name], positives.indptr, positives.indices)

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        return self._dataset.excluded(name)
