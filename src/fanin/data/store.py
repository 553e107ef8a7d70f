"""A data set tokenised once, and how an encoder reads the splits of any store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from fanin.data.batches import gather_rows
from fanin.data.label_store import INT32, INT64, UINT16, LabelStore
from fanin.mapped_arrays import forget, will_need

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.batches import Split
    from fanin.data.label_rows import LabelRows
    from fanin.labels.vocabulary import LabelVocabulary


@dataclass(frozen=True)
class TokenizedSplit:
    """The token ids and positives of a split's rows; row i owns ``tokens[tokens_indptr[i]:tokens_indptr[i + 1]]``.

    Attributes:
        tokens_indptr: (N + 1,) int64.
        tokens: (T,) uint16 where every id of the split fits, else int32.
        labels_indptr: (N + 1,) int64.
        labels: (P,) int32, sorted within a row and without duplicates.
    """

    tokens_indptr: NDArray[np.int64]
    tokens: NDArray[np.uint16] | NDArray[np.int32]
    labels_indptr: NDArray[np.int64]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.tokens_indptr) - 1

    def lengths(self) -> NDArray[np.int64]:
        """(N,) the number of tokens of each row."""
        return np.diff(self.tokens_indptr)

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens (T,) of some rows, one row behind the other, and their offsets (B + 1,)."""
        return gather_rows(self.tokens, self.tokens_indptr, rows)

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let tokens and labels of some rows be read in the background."""
        will_need(self.tokens, self.tokens_indptr[rows], self.tokens_indptr[rows + 1])
        will_need(self.labels, self.labels_indptr[rows], self.labels_indptr[rows + 1])

    def forget(self) -> None:
        """Give back the memory that what was read of tokens and labels takes."""
        forget(self.tokens)
        forget(self.labels)


class SplitStore(Protocol):
    """The splits of a data set as an encoder reads them, and their labels."""

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits there are, in the order train, dev, test."""

    @property
    def n_labels(self) -> int:
        """L, the number of labels."""

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels."""

    def split(self, name: str) -> Split:
        """The rows of one split."""

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""


class Store(LabelStore):
    """The token ids and labels of every split, opened read-only; see :class:`fanin.data.label_store.LabelStore`.

    Args:
        folder: a folder written by :func:`fanin.data.building.build_store`.

    Raises:
        DataError: the folder is missing, damaged, of another version, or holds something else.
    """

    holds: ClassVar[str] = "tokens"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **LabelStore.parts,
        "tokens_indptr": (INT64,),
        "tokens": (UINT16, INT32),
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._splits: dict[str, TokenizedSplit] = {}

    def split(self, name: str) -> TokenizedSplit:
        """The rows of one split.

        Raises:
            DataError: there is no such split, or its arrays do not fit each other.
        """
        labels = self.labels(name)
        if name not in self._splits:
            self._splits[name] = TokenizedSplit(*self.rows(name, "tokens"), labels.indptr, labels.indices)
        return self._splits[name]
