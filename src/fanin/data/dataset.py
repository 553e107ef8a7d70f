"""What every data set offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from fanin.data.feature_rows import join_features
from fanin.data.label_rows import join_label_rows
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.feature_rows import DenseFeatures, FeatureSizes, SparseFeatures
    from fanin.data.label_rows import LabelRows

SPLITS = ("train", "dev", "test")
"""The names of the splits; every data set has ``train``."""


class Dataset(ABC):
    """Texts, or features in their place, and the relevant labels, read from files as they are asked for.

    Opening looks at file names only. Texts, label names and blocks of sparse features and of relevant labels are
    streamed anew by every call; :attr:`vocabulary`, :meth:`features` and :meth:`positives` hold what they read, for
    data that fits into memory.

    Attributes:
        path: the folder or file it was opened from.
        files: every file of texts and labels, in a fixed order.
        split_names: the splits there are, in the order train, dev, test.
        feature_files: every file that holds features alone, in a fixed order.
    """

    format_name: str
    """Name and version of the format; part of the key of a store."""

    def __init__(
        self,
        path: Path,
        files: tuple[Path, ...],
        split_names: tuple[str, ...],
        feature_files: tuple[Path, ...] = (),
    ) -> None:
        self.path = path
        self.files = files
        self.split_names = split_names
        self.feature_files = feature_files
        self._positives: dict[str, LabelRows] = {}

    @abstractmethod
    def texts(self, split: str) -> Iterator[str]:
        """Stream the texts of a split in order; each call starts again.

        Raises:
            DataError: there is no such split, the data set holds no texts, or a file is unreadable or malformed (found
                as the stream gets there).
        """

    def feature_sizes(self, split: str) -> FeatureSizes:
        """How large the features of the texts of a split are, by the head of their file.

        Raises:
            DataError: there is no such split, the data set holds no features, or their file is unreadable or its head
                malformed.
        """
        self.check_split(split)
        raise DataError(f"{self.path}: holds no features; encoder.kind features needs them (docs/formats.md)")

    def feature_blocks(self, split: str) -> Iterator[SparseFeatures]:
        """Stream the sparse features of the texts of a split, in blocks of texts; each call starts again.

        Raises:
            DataError: there is no such split, the data set holds no sparse features, or a file is unreadable, malformed
                or inconsistent with another (found as the stream gets there).
        """
        self.check_split(split)
        raise DataError(f"{self.path}: holds no sparse features to be read in blocks")

    def features(self, split: str) -> DenseFeatures | SparseFeatures:
        """The features of the texts of a split: dense ones memory-mapped, or all of :meth:`feature_blocks`.

        Raises:
            DataError: as :meth:`feature_sizes` or :meth:`feature_blocks`.
        """
        columns = self.feature_sizes(split).columns
        return join_features(self.feature_blocks(split), columns)

    @abstractmethod
    def row_count(self, split: str) -> int:
        """The number of texts of a split, as far as is known without reading all of it.

        Raises:
            DataError: as :meth:`label_blocks`.
        """

    @abstractmethod
    def label_names(self) -> Iterator[str]:
        """Stream the names of the labels, in the order of their ids.

        Raises:
            DataError: as :meth:`label_blocks`.
        """

    @abstractmethod
    def label_blocks(self, split: str) -> Iterator[LabelRows]:
        """Stream the relevant labels of each text of a split, by outer id, in blocks of texts; each call starts again.

        Raises:
            DataError: there is no such split, or a file is unreadable, malformed or inconsistent with another (found as
                the stream gets there).
        """

    def positives(self, split: str) -> LabelRows:
        """All of :meth:`label_blocks`, kept.

        Raises:
            DataError: as there.
        """
        self.check_split(split)
        if split not in self._positives:
            self._positives[split] = join_label_rows(self.label_blocks(split), len(self.vocabulary))
        return self._positives[split]

    def excluded(self, split: str) -> LabelRows | None:
        """Pairs of text and label that predictions must leave out, or None where the data set names none."""
        self.check_split(split)
        return None

    @cached_property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels, kept.

        Raises:
            DataError: as :meth:`label_names`, or a name is blank or stands twice.
        """
        return LabelVocabulary(self.label_names(), source=str(self.names_source))

    @property
    def names_source(self) -> Path:
        """Where the names of the labels come from, for messages."""
        return self.path

    def check_split(self, split: str) -> None:
        """Raise DataError unless there is a split of this name."""
        if split not in self.split_names:
            raise DataError(f"{self.path}: there is no {split!r} split; it has {', '.join(self.split_names)}")
