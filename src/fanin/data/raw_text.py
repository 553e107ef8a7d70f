"""The raw-text folder: a file of texts or of features and one of labels for each split, and one of label names."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from fanin.data.dataset import SPLITS, Dataset
from fanin.data.feature_rows import DenseFeatures, FeatureSizes
from fanin.data.features import open_features
from fanin.data.label_rows import label_row_blocks, read_header, read_pairs, row_mismatch
from fanin.data.lines import count_lines, read_lines
from fanin.data.sparse_features import sparse_feature_blocks, sparse_feature_sizes
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.feature_rows import SparseFeatures
    from fanin.data.label_rows import LabelRows

_PREFIXES = {"train": "trn", "dev": "dev", "test": "tst"}
_NAMES_FILE = "Y.txt"
REQUIRED_FILES = ("trn_X.txt", "trn_X_Y.txt", "tst_X.txt", "tst_X_Y.txt", _NAMES_FILE)
OPTIONAL_FILES = ("dev_X.txt", "dev_X_Y.txt", "filter_labels_train.txt", "filter_labels_test.txt")
_FEATURES = ("_X.npy", "_X_Xf.txt")
FEATURE_FILES = tuple(f"{prefix}{ending}" for prefix in _PREFIXES.values() for ending in _FEATURES)


class RawTextDataset(Dataset):
    """A folder of ``trn_X.txt``, ``trn_X_Y.txt``, ``tst_X.txt``, ``tst_X_Y.txt`` and ``Y.txt``.

    ``*_X.txt`` holds a text a line, ``*_X_Y.txt`` the header "rows columns" and then a row of ``label:value`` a line
    (the value may be left out; 0 is not relevant), ``Y.txt`` a label name a line. ``dev_*`` is optional, and so are
    ``filter_labels_train.txt`` and ``filter_labels_test.txt``: "row label" pairs that predictions leave out.

    Each split may have features, dense ones in ``*_X.npy`` or sparse ones in ``*_X_Xf.txt``; then ``*_X.txt`` may be
    left out.

    Args:
        folder: the folder.

    Raises:
        DataError: a file is missing, or the splits do not all have features, or texts.
    """

    format_name = "raw-text 1"

    def __init__(self, folder: Path) -> None:
        has_dev = any((folder / f"dev{ending}").exists() for ending in ("_X.txt", "_X_Y.txt", *_FEATURES))
        splits = tuple(split for split in SPLITS if split != "dev" or has_dev)
        features = _feature_files(folder, splits)
        self._features_of = features
        self._has_texts = not features or (folder / "trn_X.txt").exists()
        texts = [f"{_PREFIXES[split]}_X.txt" for split in splits] if self._has_texts else []
        expected = [*texts, *(f"{_PREFIXES[split]}_X_Y.txt" for split in splits), _NAMES_FILE]
        missing = [name for name in expected if not (folder / name).exists()]
        if missing:
            found = sorted(path.name for path in folder.iterdir())
            raise DataError(
                f"{folder}: missing {', '.join(missing)}; a raw-text folder has {', '.join(expected)} "
                f"(found {', '.join(found[:20])}{', ...' if len(found) > 20 else ''})"
            )
        optional = [name for name in OPTIONAL_FILES if (folder / name).exists() and name not in expected]
        files = tuple(folder / name for name in (*expected, *optional))
        super().__init__(folder, files, splits, tuple(features.values()))

    def texts(self, split: str) -> Iterator[str]:
        """Stream the lines of the split's ``*_X.txt``; see :meth:`Dataset.texts`."""
        self.check_split(split)
        if not self._has_texts:
            raise DataError(
                f"{self.path}: holds features, but no texts ({self._texts_file(split).name}); train on it with "
                "encoder.kind features"
            )
        return read_lines(self._texts_file(split))

    def feature_sizes(self, split: str) -> FeatureSizes:
        """By the head of the split's ``*_X.npy`` or ``*_X_Xf.txt``; see :meth:`Dataset.feature_sizes`."""
        path = self._features_of.get(split)
        if path is None:
            return super().feature_sizes(split)
        if path.suffix != ".npy":
            return sparse_feature_sizes(path)
        values = open_features(path)
        return FeatureSizes(values.shape[1], values.dtype.itemsize, 0.0)

    def feature_blocks(self, split: str) -> Iterator[SparseFeatures]:
        """Stream the rows of the split's ``*_X_Xf.txt``; see :meth:`Dataset.feature_blocks`."""
        path = self._features_of.get(split)
        if path is None or path.suffix == ".npy":
            return super().feature_blocks(split)
        return self._feature_blocks(split, path)

    def features(self, split: str) -> DenseFeatures | SparseFeatures:
        """The content of the split's ``*_X.npy`` or ``*_X_Xf.txt``; see :meth:`Dataset.features`."""
        path = self._features_of.get(split)
        if path is None or path.suffix != ".npy":
            return super().features(split)
        features = DenseFeatures(open_features(path))
        self._check_rows(split, path, len(features))
        return features

    def _feature_blocks(self, split: str, path: Path) -> Iterator[SparseFeatures]:
        rows = 0
        for block in sparse_feature_blocks(path):
            rows += len(block)
            yield block
        self._check_rows(split, path, rows)

    def _check_rows(self, split: str, path: Path, found: int) -> None:
        """Raise DataError unless so many features are a split's."""
        rows = self.row_count(split)
        if found != rows:
            raise DataError(
                f"{path}: features of {found} texts, but {self._labels_file(split)} has {rows} rows; "
                "row i of one must belong to row i of the other"
            )

    def excluded(self, split: str) -> LabelRows | None:
        """The pairs of ``filter_labels_<split>.txt``, or None without that file."""
        self.check_split(split)
        path = self.path / f"filter_labels_{split}.txt"
        return read_pairs(path, *self._shapes[split]) if path in self.files else None

    def row_count(self, split: str) -> int:
        """What the header of the split's ``*_X_Y.txt`` says."""
        self.check_split(split)
        return self._shapes[split][0]

    def label_names(self) -> Iterator[str]:
        """Stream the lines of ``Y.txt``; see :meth:`Dataset.label_names`."""
        assert self._shapes, "a data set has splits"
        return read_lines(self.names_source)

    def label_blocks(self, split: str) -> Iterator[LabelRows]:
        """Stream the rows of the split's ``*_X_Y.txt``; see :meth:`Dataset.label_blocks`."""
        self.row_count(split)
        return label_row_blocks(self._labels_file(split))

    @property
    def names_source(self) -> Path:
        """``Y.txt``."""
        return self.path / _NAMES_FILE

    def _texts_file(self, split: str) -> Path:
        return self.path / f"{_PREFIXES[split]}_X.txt"

    def _labels_file(self, split: str) -> Path:
        return self.path / f"{_PREFIXES[split]}_X_Y.txt"

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each split's labels, found to agree with the numbers of names and of texts."""
        names, columns = count_lines(self.names_source), read_header(self._labels_file("train"))[1]
        if names != columns:
            raise DataError(
                f"{self.names_source}: {names} label names (lines), but {self._labels_file('train')}, line 1, says "
                f"{columns} columns; give a name a column"
            )
        return {split: self._shape(split, names) for split in self.split_names}

    def _shape(self, split: str, names: int) -> tuple[int, int]:
        path = self._labels_file(split)
        rows, columns = read_header(path)
        if columns != names:
            raise DataError(
                f"{path}, line 1: the header says {columns} columns, but {self.names_source} names {names} labels; "
                "both must be the number of labels"
            )
        lines = count_lines(path) - 1
        if lines != rows:
            raise row_mismatch(path, rows, f"{lines} lines behind it")
        texts = count_lines(self._texts_file(split)) if self._has_texts else rows
        if texts != rows:
            raise DataError(
                f"{self._texts_file(split)}: {texts} texts (lines), but {path} has {rows} rows; "
                "line i of one must belong to row i of the other"
            )
        return rows, columns


def _feature_files(folder: Path, splits: tuple[str, ...]) -> dict[str, Path]:
    """The file of features of each split, none where no split has one.

    Raises:
        DataError: some splits have one and others not, or they are of different forms, or a split has two.
    """
    found = {
        ending: {split: path for split in splits if (path := folder / f"{_PREFIXES[split]}{ending}").exists()}
        for ending in _FEATURES
    }
    forms = [files for files in found.values() if files]
    if not forms:
        return {}
    if len(forms) > 1:
        names = ", ".join(path.name for files in forms for path in files.values())
        raise DataError(f"{folder}: features in two forms ({names}); keep either the .npy or the _Xf.txt files")
    if len(forms[0]) < len(splits):
        here = ", ".join(path.name for path in forms[0].values())
        lacking = ", ".join(split for split in splits if split not in forms[0])
        raise DataError(f"{folder}: {here} hold features, but the {lacking} split has none; give them for all")
    return forms[0]
