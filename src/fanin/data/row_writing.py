"""Writing rows of numbers as the arrays of a store, block by block: values and the offsets of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_NARROW_LIMIT = 65_536
_NARROW_BLOCK = 1 << 22


class RowWriter:
    """Appends rows to ``<name>.bin``, values as int32, and ``<name>_indptr.bin``, (N + 1,) int64; a context manager.

    Args:
        folder: where.
        name: of the array of values.
        narrow: whether values become uint16 in the end where all of them fit.

    Attributes:
        rows: how many were appended.
    """

    def __init__(self, folder: Path, name: str, *, narrow: bool) -> None:
        self.rows = 0
        self._values_path, self._name, self._narrow = folder / f"{name}.bin", name, narrow
        self._offsets_path = folder / f"{name}_indptr.bin"
        self._total = self._largest = 0
        self._values: BinaryIO
        self._offsets: BinaryIO

    def __enter__(self) -> Self:
        self._values = self._values_path.open("wb")
        self._offsets = self._offsets_path.open("wb")
        np.zeros(1, np.int64).tofile(self._offsets)
        return self

    def __exit__(self, *error: object) -> None:
        self._values.close()
        self._offsets.close()

    def append(self, lengths: NDArray[np.int64], values: NDArray[np.integer[Any]]) -> None:
        """Append rows of these lengths, whose values stand one row behind the other."""
        assert values.min(initial=0) >= 0, "ids are never negative"
        self._largest = max(self._largest, int(values.max(initial=0)))
        assert self._largest < 2**31, "ids fit int32"
        assert lengths.sum() == len(values), "every value is in a row"
        (self._total + np.cumsum(lengths, dtype=np.int64)).tofile(self._offsets)
        values.astype(np.int32).tofile(self._values)
        self._total += len(values)
        self.rows += len(lengths)

    def finish(self) -> dict[str, tuple[str, int]]:
        """Dtype and length of the two arrays by name; call it behind the ``with`` block."""
        dtype: np.dtype[Any] = np.dtype(np.int32)
        if self._narrow and self._largest < _NARROW_LIMIT:
            dtype = np.dtype(np.uint16)
            narrow = self._values_path.with_suffix(".narrow")
            with self._values_path.open("rb") as wide, narrow.open("wb") as file:
                while len(block := np.fromfile(wide, dtype=np.int32, count=_NARROW_BLOCK)):
                    block.astype(dtype).tofile(file)
            narrow.replace(self._values_path)
        return {
            self._name: (dtype.str, self._total),
            f"{self._name}_indptr": (np.dtype(np.int64).str, self.rows + 1),
        }
