"""The raw-text folder: a file of texts and a file of ``label:value`` rows for each split, and one of label names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.dataset import SPLITS, Dataset
from fanin.data.label_rows import LabelRows, read_header, read_label_rows, read_pairs
from fanin.data.lines import count_lines, read_lines
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIXES = {"train": "trn", "dev": "dev", "test": "tst"}
_NAMES_FILE = "Y.txt"
REQUIRED_FILES = ("trn_X.txt", "trn_X_Y.txt", "tst_X.txt", "tst_X_Y.txt", _NAMES_FILE)
OPTIONAL_FILES = ("dev_X.txt", "dev_X_Y.txt", "filter_labels_train.txt", "filter_labels_test.txt")


class RawTextDataset(Dataset):
    """A folder of ``trn_X.txt``, ``trn_X_Y.txt``, ``tst_X.txt``, ``tst_X_Y.txt`` and ``Y.txt``.

    ``*_X.txt`` holds a text a line, ``*_X_Y.txt`` the header "rows columns" and then a row of ``label:value`` a line
    (the value may be left out; 0 is not relevant), ``Y.txt`` a label name a line. ``dev_*`` is optional, and so are
    ``filter_labels_train.txt`` and ``filter_labels_test.txt``: "row label" pairs that predictions leave out.

    Args:
        folder: the folder.

    Raises:
        DataError: a file is missing.
    """

    format_name = "raw-text 1"

    def __init__(self, folder: Path) -> None:
        expected = list(REQUIRED_FILES)
        has_dev = any((folder / name).exists() for name in ("dev_X.txt", "dev_X_Y.txt"))
        if has_dev:
            expected += ["dev_X.txt", "dev_X_Y.txt"]
        missing = [name for name in expected if not (folder / name).exists()]
        if missing:
            found = sorted(path.name for path in folder.iterdir())
            raise DataError(
                f"{folder}: missing {', '.join(missing)}; a raw-text folder has {', '.join(expected)} "
                f"(found {', '.join(found[:20])}{', ...' if len(found) > 20 else ''})"
            )
        optional = [name for name in OPTIONAL_FILES if (folder / name).exists() and name not in expected]
        splits = tuple(split for split in SPLITS if split != "dev" or has_dev)
        super().__init__(folder, tuple(folder / name for name in (*expected, *optional)), splits)

    def texts(self, split: str) -> Iterator[str]:
        """Stream the lines of the split's ``*_X.txt``; see :meth:`Dataset.texts`."""
        self.check_split(split)
        return read_lines(self._texts_file(split))

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
