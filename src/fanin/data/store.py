"""A data set tokenised once, as memory-mapped arrays in a folder whose name is a key of its content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fanin.data.batches import gather_rows
from fanin.data.dataset import SPLITS
from fanin.data.label_rows import LabelRows
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary
from fanin.mapped_arrays import forget, map_array, will_need

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.batches import Split

STORE_VERSION = 1
META_FILE = "meta.json"
NAMES_FILE = "labels.jsonl"
_SPLIT_PARTS = ("tokens_indptr", "tokens", "labels_indptr", "labels")
_OFFSETS, _IDS = (np.dtype(np.int64).str,), (np.dtype(np.int32).str,)
_DTYPES = {
    "tokens_indptr": _OFFSETS,
    "tokens": (np.dtype(np.uint16).str, *_IDS),
    "labels_indptr": _OFFSETS,
    "labels": _IDS,
    "excluded_indptr": _OFFSETS,
    "excluded": _IDS,
}
_NAME_BYTES = 4  # of the shortest line of a label name: quotes, a character and the line end


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
        self._splits: dict[str, TokenizedSplit] = {}  # pages of a file that is mapped twice are counted twice

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
        """The names of the labels.

        Raises:
            DataError: the file of names is damaged.
        """
        names = LabelVocabulary.load(self.folder / NAMES_FILE)
        if len(names) != self.n_labels:
            raise DataError(f"{self.folder}: {len(names)} label names for {self.n_labels} labels; delete the folder")
        return names

    def split(self, name: str) -> TokenizedSplit:
        """The rows of one split.

        Raises:
            DataError: there is no such split, or its arrays do not fit each other.
        """
        self._check_split(name)
        if name not in self._splits:
            self._splits[name] = TokenizedSplit(*self._rows(f"{name}.tokens"), *self._rows(f"{name}.labels"))
        return self._splits[name]

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        self._check_split(name)
        if f"{name}.excluded" not in self._meta["arrays"]:
            return None
        return LabelRows(*self._rows(f"{name}.excluded"), self.n_labels)

    def _check_split(self, name: str) -> None:
        if name not in self.split_names:
            raise DataError(f"{self.folder}: there is no {name!r} split; it has {', '.join(self.split_names)}")

    def _rows(self, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Offsets and values; of the offsets only the ends are looked at."""
        indptr, values = self._array(f"{name}_indptr"), self._array(name)
        if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(values):
            raise DataError(f"{self.folder}: {name}.bin does not fit its offsets; delete the folder")
        return indptr, values

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
    if not _describes_a_store(meta):
        return f"{META_FILE} is damaged"
    sizes = {f"{name}.bin": np.dtype(dtype).itemsize * length for name, (dtype, length) in meta["arrays"].items()}
    for name, size in {**sizes, NAMES_FILE: meta["names_bytes"]}.items():
        found = (folder / name).stat().st_size
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
    return None


def _describes_a_store(meta: dict[str, Any]) -> bool:
    """Whether the description is one of its form, with splits of as many rows of tokens as of labels."""
    splits, arrays = meta["splits"], meta["arrays"]
    numbers = [meta["n_labels"], meta["names_bytes"], *(length for _, length in arrays.values())]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    parts = [(*name.split("."), dtype) for name, (dtype, _) in arrays.items()]
    known = all(len(of) == 3 and of[0] in splits and of[2] in _DTYPES[of[1]] for of in parts)
    paired = all(f"{name}_indptr" in arrays for name in arrays if not name.endswith("_indptr"))
    rows = [{arrays[f"{split}.{part}"][1] for part in ("tokens_indptr", "labels_indptr")} for split in splits]
    complete = all(f"{split}.{part}" in arrays for split in splits for part in _SPLIT_PARTS)
    in_order = "train" in splits and splits == [split for split in SPLITS if split in splits]
    enough_names = 1 <= meta["n_labels"] <= meta["names_bytes"] // _NAME_BYTES
    same_rows = all(len(found) == 1 and min(found) > 1 for found in rows)
    return known and paired and complete and in_order and enough_names and same_rows
