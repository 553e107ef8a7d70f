"""What every data set offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.feature_rows import DenseFeatures, SparseFeatures
    from fanin.data.label_rows import LabelRows
    from fanin.labels.vocabulary import LabelVocabulary

SPLITS = ("train", "dev", "test")
"""The names of the splits; every data set has ``train``."""


class Dataset(ABC):
    """Texts, or features in their place, and the relevant labels, read from files as they are asked for.

    Opening looks at file names only. Labels are read at the first call that needs them and kept (integers only);
    texts are streamed anew by every call.

    Attributes:
        path: the folder or file it was opened from.
        files: every file of texts and labels, in a fixed order.
        split_names: the splits there are, in the order train, dev, test.
    """

    format_name: str
    """Name and version of the format; part of the key of a tokenised store."""

    def __init__(self, path: Path, files: tuple[Path, ...], split_names: tuple[str, ...]) -> None:
        self.path = path
        self.files = files
        self.split_names = split_names

    @abstractmethod
    def texts(self, split: str) -> Iterator[str]:
        """Stream the texts of a split in order; each call starts again.

        Raises:
            DataError: there is no such split, the data set holds no texts, or a file is unreadable or malformed (found
                as the stream gets there).
        """

    def features(self, split: str) -> DenseFeatures | SparseFeatures:
        """The features of the texts of a split, dense ones memory-mapped.

        Raises:
            DataError: there is no such split, the data set holds no features, or a file is unreadable or malformed.
        """
        self.check_split(split)
        raise DataError(f"{self.path}: holds no features; encoder.kind features needs them (docs/formats.md)")

    def positives(self, split: str) -> LabelRows:
        """The relevant labels of each text of a split, by outer id.

        Raises:
            DataError: there is no such split, or a file is unreadable, malformed or inconsistent with another.
        """
        self.check_split(split)
        return self._labels[1][split]

    def excluded(self, split: str) -> LabelRows | None:
        """Pairs of text and label that predictions must leave out, or None where the data set names none."""
        self.check_split(split)
        return None

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels.

        Raises:
            DataError: as :meth:`positives`.
        """
        return self._labels[0]

    def check_split(self, split: str) -> None:
        """Raise DataError unless there is a split of this name."""
        if split not in self.split_names:
            raise DataError(f"{self.path}: there is no {split!r} split; it has {', '.join(self.split_names)}")

    @cached_property
    def _labels(self) -> tuple[LabelVocabulary, dict[str, LabelRows]]:
        return self._read_labels()

    @abstractmethod
    def _read_labels(self) -> tuple[LabelVocabulary, dict[str, LabelRows]]:
        """The vocabulary and each split's positives, checked against each other and the number of texts."""
