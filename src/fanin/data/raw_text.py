"""The raw-text folder: a file of texts or of features and one of labels for each split, and one of label names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.dataset import SPLITS, Dataset
from fanin.data.feature_rows import DenseFeatures, SparseFeatures
from fanin.data.features import open_features
from fanin.data.label_rows import LabelRows, read_header, read_label_rows, read_pairs
from fanin.data.lines import count_lines, read_lines
from fanin.data.sparse_features import read_sparse_features
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        self._feature_files = _feature_files(folder, splits)
        self._has_texts = not self._feature_files or (folder / "trn_X.txt").exists()
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
        super().__init__(folder, tuple(folder / name for name in (*expected, *optional)), splits)

    def texts(self, split: str) -> Iterator[str]:
        """Stream the lines of the split's ``*_X.txt``; see :meth:`Dataset.texts`."""
        self.check_split(split)
        if not self._has_texts:
            raise DataError(
                f"{self.path}: holds features, but no texts ({self._texts_file(split).name}); train on it with "
                "encoder.kind features"
            )
        return read_lines(self._texts_file(split))

    def features(self, split: str) -> DenseFeatures | SparseFeatures:
        """The content of the split's ``*_X.npy`` or ``*_X_Xf.txt``; see :meth:`Dataset.features`."""
        if not self._feature_files:
            return super().features(split)
        self.check_split(split)
        path = self._feature_files[split]
        features = DenseFeatures(open_features(path)) if path.suffix == ".npy" else read_sparse_features(path)
        rows = len(self.positives(split))
        if len(features) != rows:
            raise DataError(
                f"{path}: features of {len(features)} texts, but {self._labels_file(split)} has {rows} rows; "
                "row i of one must belong to row i of the other"
            )
        return features

    def excluded(self, split: str) -> LabelRows | None:
        """The pairs of ``filter_labels_<split>.txt``, or None without that file."""
        path = self.path / f"filter_labels_{split}.txt"
        positives = self.positives(split)
        return read_pairs(path, len(positives), positives.columns) if path in self.files else None

    def _texts_file(self, split: str) -> Path:
        return self.path / f"{_PREFIXES[split]}_X.txt"

    def _labels_file(self, split: str) -> Path:
        return self.path / f"{_PREFIXES[split]}_X_Y.txt"

    def _read_labels(self) -> tuple[LabelVocabulary, dict[str, LabelRows]]:
        vocabulary = self._read_names()
        positives = {}
        for split in self.split_names:
            path = self._labels_file(split)
            columns = read_header(path)[1]
            if columns != len(vocabulary):
                raise DataError(
                    f"{path}, line 1: the header says {columns} columns, but {self.path / _NAMES_FILE} names "
                    f"{len(vocabulary)} labels; both must be the number of labels"
                )
            positives[split] = read_label_rows(path)
            if not self._has_texts:
                continue
            texts = count_lines(self._texts_file(split))
            if texts != len(positives[split]):
                raise DataError(
                    f"{self._texts_file(split)}: {texts} texts (lines), but {path} has {len(positives[split])} rows; "
                    "line i of one must belong to row i of the other"
                )
        return vocabulary, positives

    def _read_names(self) -> LabelVocabulary:
        path = self.path / _NAMES_FILE
        # The counts are compared before the names are held, so that a wrong file of any size costs no memory.
        names, columns = count_lines(path), read_header(self._labels_file("train"))[1]
        if names != columns:
            raise DataError(
                f"{path}: {names} label names (lines), but {self._labels_file('train')}, line 1, says {columns} "
                "columns; give a name a column"
            )
        return LabelVocabulary(read_lines(path), source=str(path))


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
