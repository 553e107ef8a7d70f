"""A finished store of a data set: memory-mapped arrays in a folder whose name is a key of their content."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fanin.data.dataset import SPLITS
from fanin.data.label_rows import LabelRows
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary
from fanin.mapped_arrays import map_array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

STORE_VERSION = 2
META_FILE = "meta.json"
NAMES_FILE = "labels.jsonl"
UINT16, INT32, INT64, FLOAT32 = (np.dtype(kind).str for kind in (np.uint16, np.int32, np.int64, np.float32))
_EXCLUDED = {"excluded_indptr": (INT64,), "excluded": (INT32,)}
_NAME_BYTES = 4  # of the shortest line of a label name: quotes, a character and the line end


class LabelStore:
    """The labels of some splits, opened read-only; arrays are memory-mapped, label names are read when asked for.

    Stores that hold more of every split are its subclasses.

    Args:
        folder: a folder written by :mod:`fanin.data.building`.

    Raises:
        DataError: the folder is missing, damaged, of another version, or holds something else.
    """

    holds: ClassVar[str] = "labels"
    """What a store of this class is of."""

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels_indptr": (INT64,), "labels": (INT32,)}
    """The arrays that every split has, and the dtypes that each may have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._meta = self._read_meta()
        self._labels: dict[str, LabelRows] = {}  # pages of a file that is mapped twice are counted twice

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

    def labels(self, name: str) -> LabelRows:
        """The relevant labels of the rows of a split.

        Raises:
            DataError: there is no such split, or its arrays do not fit each other.
        """
        self.check_split(name)
        if name not in self._labels:
            self._labels[name] = LabelRows(*self.rows(name, "labels"), self.n_labels)
        return self._labels[name]

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        self.check_split(name)
        if f"{name}.excluded" not in self._meta["arrays"]:
            return None
        return LabelRows(*self.rows(name, "excluded"), self.n_labels)

    def check_split(self, name: str) -> None:
        """Raise DataError unless there is a split of this name."""
        if name not in self.split_names:
            raise DataError(f"{self.folder}: there is no {name!r} split; it has {', '.join(self.split_names)}")

    def rows(self, split: str, part: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Offsets and values of a part of a split, mapped anew; of the offsets only the ends are looked at.

        Raises:
            DataError: they do not fit each other.
        """
        indptr, values = self.array(split, f"{part}_indptr"), self.array(split, part)
        if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(values):
            raise DataError(f"{self.folder}: {split}.{part}.bin does not fit its offsets; delete the folder")
        return indptr, values

    def array(self, split: str, part: str) -> NDArray[Any]:
        """An array of a split, mapped anew."""
        name = f"{split}.{part}"
        dtype, length = self._meta["arrays"][name]
        return map_array(self.folder / f"{name}.bin", dtype, (length,))

    def _read_meta(self) -> dict[str, Any]:
        try:
            meta: dict[str, Any] = json.loads((self.folder / META_FILE).read_bytes())
            fault = self._find_fault(meta)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{self.folder}: no whole store of a data set's {self.holds}; delete the folder") from error
        if fault:
            raise DataError(f"{self.folder}: {fault}; delete the folder")
        return meta

    def _find_fault(self, meta: dict[str, Any]) -> str | None:
        if meta["version"] != STORE_VERSION:
            return f"a store of version {meta['version']}, this is {STORE_VERSION}"
        if meta["holds"] != self.holds:
            return f"a store of {meta['holds']}, not of {self.holds}"
        if not self._describes_a_store(meta):
            return f"{META_FILE} is damaged"
        sizes = {f"{name}.bin": np.dtype(dtype).itemsize * length for name, (dtype, length) in meta["arrays"].items()}
        for name, size in {**sizes, NAMES_FILE: meta["names_bytes"]}.items():
            found = (self.folder / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
        return None

    def _describes_a_store(self, meta: dict[str, Any]) -> bool:
        """Whether the description is one of its form, with as many rows in every part of a split."""
        splits, arrays = meta["splits"], meta["arrays"]
        numbers = [meta["n_labels"], meta["names_bytes"], *(length for _, length in arrays.values())]
        if not all(type(number) is int and number >= 0 for number in numbers):
            return False
        of_split: dict[str, dict[str, Any]] = {split: {} for split in splits}
        for name, array in arrays.items():
            split, part = name.split(".")
            of_split[split][part] = array
        in_order = bool(splits) and splits == [split for split in SPLITS if split in splits]
        enough_names = 1 <= meta["n_labels"] <= meta["names_bytes"] // _NAME_BYTES
        return in_order and enough_names and all(map(self._describes_a_split, of_split.values()))

    def _describes_a_split(self, arrays: dict[str, Any]) -> bool:
        known = {**self.parts, **(_EXCLUDED if "excluded" in arrays else {})}
        rows = {length for part, (_, length) in arrays.items() if part.endswith("_indptr")}
        of_known_dtypes = all(dtype in known[part] for part, (dtype, _) in arrays.items())
        return of_known_dtypes and arrays.keys() == known.keys() and len(rows) == 1 and min(rows) > 0
