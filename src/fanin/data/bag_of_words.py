"""The bag-of-words files of the Extreme Classification Repository: labels and sparse features, and no texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.dataset import Dataset
from fanin.data.lines import count_lines, read_lines
from fanin.data.sparse_features import read_bag_of_words
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

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
        self._features: dict[str, SparseFeatures] = {}

    def texts(self, split: str) -> Iterator[str]:
        """Refuses: there are none."""
        self.check_split(split)
        raise DataError(f"{self.path}: holds features, but no texts; train on it with encoder.kind features")

    def features(self, split: str) -> SparseFeatures:
        """The features in the split's file; see :meth:`Dataset.features`."""
        self.positives(split)
        return self._features[split]

    def _read_labels(self) -> tuple[LabelVocabulary, dict[str, LabelRows]]:
        positives = {}
        for split, name in zip(self.split_names, BAG_OF_WORDS_FILES, strict=True):
            self._features[split], positives[split] = read_bag_of_words(self.path / name)
        columns = positives["train"].columns
        if positives["test"].columns != columns:
            raise DataError(
                f"{self.path / 'test.txt'}, line 1: {positives['test'].columns} labels, but train.txt has {columns}; "
                "both must be the number of labels of the data set"
            )
        return self._names(columns), positives

    def _names(self, columns: int) -> LabelVocabulary:
        path = self.path / _NAMES_FILE
        if path not in self.files:
            return LabelVocabulary((str(label) for label in range(columns)), source=str(self.path))
        found = count_lines(path)
        if found != columns:
            raise DataError(f"{path}: {found} label names (lines), but train.txt has {columns} labels; give each one")
        return LabelVocabulary(read_lines(path), source=str(path))
