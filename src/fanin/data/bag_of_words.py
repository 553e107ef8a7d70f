"""The bag-of-words files of the Extreme Classification Repository: labels and sparse features, and no texts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from fanin.data.dataset import Dataset
from fanin.data.label_rows import row_mismatch
from fanin.data.lines import count_lines, read_lines
from fanin.data.sparse_features import (
    bag_of_words_features,
    bag_of_words_labels,
    bag_of_words_sizes,
    read_bag_of_words_header,
)
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.feature_rows import FeatureSizes, SparseFeatures
    from fanin.data.label_rows import LabelRows
    from fanin.data.sparse_features import BagOfWordsHeader

BAG_OF_WORDS_FILES = ("train.txt", "test.txt")
_NAMES_FILE = "Y.txt"


class BagOfWordsDataset(Dataset):
    """A folder of ``train.txt`` and ``test.txt``, "rows features labels" and then ``l,l f:v f:v`` a line.

    ``Y.txt``, a label name a line, is optional; without it the labels go by their numbers.

    Args:
        folder: the folder.
    """

    format_name = "bag-of-words 1"

    def __init__(self, folder: Path) -> None:
        names = [*BAG_OF_WORDS_FILES, *([_NAMES_FILE] if (folder / _NAMES_FILE).exists() else [])]
        super().__init__(folder, tuple(folder / name for name in names), ("train", "test"))

    def texts(self, split: str) -> Iterator[str]:
        """Refuses: there are none."""
        self.check_split(split)
        raise DataError(f"{self.path}: holds features, but no texts; train on it with encoder.kind features")

    def feature_sizes(self, split: str) -> FeatureSizes:
        """By the head of the split's file; see :meth:`Dataset.feature_sizes`."""
        self._header(split)
        return bag_of_words_sizes(self._file(split))

    def feature_blocks(self, split: str) -> Iterator[SparseFeatures]:
        """Stream the features in the split's file; see :meth:`Dataset.feature_blocks`."""
        self._header(split)
        return bag_of_words_features(self._file(split))

    def row_count(self, split: str) -> int:
        """How many rows the split's file has."""
        return self._header(split).rows

    def label_names(self) -> Iterator[str]:
        """The lines of ``Y.txt``, or else the labels' numbers; see :meth:`Dataset.label_names`."""
        columns, path = self._header("train").labels, self.path / _NAMES_FILE
        if path not in self.files:
            self._check_promise(columns)
            return map(str, range(columns))
        found = count_lines(path)
        if found != columns:
            raise DataError(f"{path}: {found} label names (lines), but train.txt has {columns} labels; give each one")
        return read_lines(path)

    def label_blocks(self, split: str) -> Iterator[LabelRows]:
        """Stream the labels of the split's file; see :meth:`Dataset.label_blocks`."""
        self._header(split)
        return bag_of_words_labels(self._file(split))

    @property
    def names_source(self) -> Path:
        """``Y.txt``, or the folder where there is none."""
        path = self.path / _NAMES_FILE
        return path if path in self.files else self.path

    def _check_promise(self, labels: int) -> None:
        """Numbers are made up for no more labels than files of this size could name one by one."""
        size = sum(path.stat().st_size for path in self.files)
        if labels > size:
            raise DataError(
                f"{self.files[0]}, line 1: the header promises {labels} labels, but the files have {size} bytes in "
                f"all; correct the header, or give {_NAMES_FILE} with a name a line"
            )

    def _header(self, split: str) -> BagOfWordsHeader:
        self.check_split(split)
        return self._headers[split]

    @cached_property
    def _headers(self) -> dict[str, BagOfWordsHeader]:
        """The header of each split's file, found to agree with its lines and with the other split."""
        found = {split: read_bag_of_words_header(self._file(split)) for split in self.split_names}
        labels = found["train"].labels
        for split, header in found.items():
            path = self._file(split)
            if header.labels != labels:
                raise DataError(
                    f"{path}, line 1: {header.labels} labels, but train.txt has {labels}; both must be the number of "
                    "labels of the data set"
                )
            lines = count_lines(path) - 1
            if lines != header.rows:
                raise row_mismatch(path, header.rows, f"{lines} lines behind it")
        return found

    def _file(self, split: str) -> Path:
        return self.path / BAG_OF_WORDS_FILES[self.split_names.index(split)]
