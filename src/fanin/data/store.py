"""A data set tokenised once, as memory-mapped arrays in a folder whose name is a key of its content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fanin.data.batches import gather_rows
from fanin.data.label_rows import LabelRows
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary
from fanin.mapped_arrays import map_array, will_need

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.batches import Split

STORE_VERSION = 1
META_FILE = "meta.json"
NAMES_FILE = "labels.jsonl"
_SPLIT_PARTS = ("tokens_indptr", "tokens", "labels_indptr", "labels")


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


class Store:
    """A finished store, opened read-only; arrays are memory-mapped, label names are read when asked for.

    Args:
        folder: a folder written by :func:`fanin.data.building.build_store`.

    Raises:
        DataError: the folder is missing, damaged, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._meta = _read_meta(folder)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits there are, in the order train, dev, test."""
        return tuple(self._meta["splits"])

    @property
    def n_labels(self) -> int:
        """L, the number of labels."""
        return int(self._meta["n_labels"])

    @cached_property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels."""
        return LabelVocabulary.load(self.folder / NAMES_FILE)

    def split(self, name: str) -> TokenizedSplit:
        """The rows of one split.

        Raises:
            DataError: there is no such split.
        """
        self._check_split(name)
        return TokenizedSplit(*(self._array(f"{name}.{part}") for part in _SPLIT_PARTS))

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        self._check_split(name)
        if f"{name}.excluded" not in self._meta["arrays"]:
            return None
        return LabelRows(self._array(f"{name}.excluded_indptr"), self._array(f"{name}.excluded"), self.n_labels)

    def _check_split(self, name: str) -> None:
        if name not in self.split_names:
            raise DataError(f"{self.folder}: there is no {name!r} split; it has {', '.join(self.split_names)}")

    def _array(self, name: str) -> NDArray[Any]:
        dtype, length = self._meta["arrays"][name]
        return map_array(self.folder / f"{name}.bin", dtype, (length,))


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / META_FILE).read_bytes())
        fault = _find_fault(folder, meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder}: no whole store of tokenised texts; delete the folder") from error
    if fault:
        raise DataError(f"{folder}: {fault}; delete the folder")
    return meta


def _find_fault(folder: Path, meta: dict[str, Any]) -> str | None:
    if meta["version"] != STORE_VERSION:
        return f"a store of version {meta['version']}, this is {STORE_VERSION}"
    sizes = {f"{name}.bin": np.dtype(dtype).itemsize * length for name, (dtype, length) in meta["arrays"].items()}
    for name, size in {**sizes, NAMES_FILE: meta["names_bytes"]}.items():
        found = (folder / name).stat().st_size
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
    parts = [f"{split}.{part}" for split in meta["splits"] for part in _SPLIT_PARTS]
    missing = [name for name in parts if name not in meta["arrays"]]
    return f"{META_FILE} does not list {missing[0]}" if missing else None
