"""Splits of a data set whose texts are given as features, checked before anything is computed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.building import build_label_store, build_sparse_store
from fanin.data.feature_rows import DenseFeatures, FeatureSplit
from fanin.data.features import check_finite, open_features
from fanin.data.sparse_features import read_sparse_features
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fanin.data.dataset import Dataset
    from fanin.data.feature_rows import FeatureSizes, SparseFeatures
    from fanin.data.label_rows import LabelRows
    from fanin.data.label_store import LabelStore
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
    """The splits of a data set with features, memory-mapped: dense ones in their own files, sparse ones in a store.

    Args:
        dataset: what to read.
        progress: called with (rows done, rows in all) while dense features are checked, or sparse ones read for the
            first time.
        splits: those to open, by default all.
        cache: folder for stores; see :func:`fanin.data.content.cache_folder`.

    Attributes:
        split_names: the splits that are open, in the order train, dev, test.
        columns: D0, the number of features.
        sparse: whether they are sparse.

    Raises:
        DataError: there are no features, a file is faulty, or the splits do not fit each other.
        ConfigError: the cache folder cannot be written.
    """

    def __init__(
        self,
        dataset: Dataset,
        progress: Callable[[int, int], None] | None = None,
        splits: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.split_names = dataset.split_names if splits is None else tuple(splits)
        sizes = _same_features(dataset, self.split_names)
        self.columns, self.sparse = sizes.columns, sizes.sparse
        self._features: dict[str, DenseFeatures | SparseFeatures]
        self._labels: LabelStore
        if self.sparse:
            store = build_sparse_store(dataset, self.split_names, self.columns, cache, progress)
            self._features = {split: store.features(split) for split in self.split_names}
            self._labels = store
        else:
            self._features = _checked_features(dataset, self.split_names, progress)
            self._labels = build_label_store(dataset, self.split_names, cache)

    @property
    def n_labels(self) -> int:
        """L, the number of labels."""
        return self._labels.n_labels

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels."""
        return self._labels.vocabulary

    def split(self, name: str) -> FeatureSplit:
        """The rows of one split.

        Raises:
            DataError: there is no such split.
        """
        labels = self._labels.labels(name)
        assert name in self._features, "the split is open"
        return FeatureSplit(self._features[name], labels.indptr, labels.indices)

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        return self._labels.excluded(name)


def _same_features(dataset: Dataset, splits: Sequence[str]) -> FeatureSizes:
    """The sizes of the first split's features, whose number the others are found to have too."""
    first, *others = (dataset.feature_sizes(split) for split in splits)
    for split, sizes in zip(splits[1:], others, strict=True):
        if sizes.columns != first.columns:
            raise DataError(
                f"{dataset.path}: the {split} split has {sizes.columns} features and the {splits[0]} split "
                f"{first.columns}; both must be the same features"
            )
    return first


def _checked_features(
    dataset: Dataset, splits: Sequence[str], progress: Callable[[int, int], None] | None
) -> dict[str, DenseFeatures | SparseFeatures]:
    """The dense features of each split, all of them finite."""
    found = {split: dataset.features(split) for split in splits}
    total, before = sum(map(len, found.values())), 0
    for features in found.values():
        assert isinstance(features, DenseFeatures)
        source = str(getattr(features.values, "filename", dataset.path))
        for done in check_finite(features.values, source):
            if progress is not None:
                progress(before + done, total)
        before += len(features)
    return found
