"""The bag-of-words files of the Extreme Classification Repository: labels and sparse features, and no texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.dataset import Dataset
from fanin.data.lines import count_lines, read_lines
from fanin.data.sparse_features import read_bag_of_words
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.feature_rows import SparseFeatures
    from fanin.data.label_rows import LabelRows

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
        self._read: dict[str, tuple[SparseFeatures, LabelRows]] = {}

    def texts(self, split: str) -> Iterator[str]:
        """Refuses: there are none."""
        self.check_split(split)
        raise DataError(f"{self.path}: holds features, but no texts; train on it with encoder.kind features")

    def features(self, split: str) -> SparseFeatures:
        """The features in the split's file; see :meth:`Dataset.features`."""
        return self._rows(split)[0]

    def row_count(self, split: str) -> int:
        """How many rows the split's file has."""
        return len(self._rows(split)[1])

    def label_names(self) -> Iterator[str]:
        """The lines of ``Y.txt``, or else the labels' numbers; see :meth:`Dataset.label_names`."""
        columns, path = self._rows("train")[1].columns, self.path / _NAMES_FILE
        if path not in self.files:
            self._check_promise(columns)
            return map(str, range(columns))
        found = count_lines(path)
        if found != columns:
            raise DataError(f"{path}: {found} label names (lines), but train.txt has {columns} labels; give each one")
        return read_lines(path)

    def label_blocks(self, split: str) -> Iterator[LabelRows]:
        """The labels of the split's file, as one block; see :meth:`Dataset.label_blocks`."""
        yield self._rows(split)[1]

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

    def _rows(self, split: str) -> tuple[SparseFeatures, LabelRows]:
        """The features and labels of a split, kept."""
        self.check_split(split)
        if split not in self._read:
            path = self.path / BAG_OF_WORDS_FILES[self.split_names.index(split)]
            features, positives = read_bag_of_words(path)
            if split != "train" and positives.columns != self._rows("train")[1].columns:
                raise DataError(
                    f"{path}, line 1: {positives.columns} labels, but train.txt has "
                    f"{self._rows('train')[1].columns}; both must be the number of labels of the data set"
                )
            self._read[split] = features, positives
        return self._read[split]
