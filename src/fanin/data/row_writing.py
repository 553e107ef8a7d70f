"""Writing the arrays of a store block by block: values, and rows of them with their offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

_NARROW_LIMIT = 65_536
_NARROW_BLOCK = 1 << 22


class ArrayWriter:
    """Appends values to ``<name>.bin``; a context manager.

    Args:
        folder: where.
        name: of the array.
        dtype: in which values are written.

    Attributes:
        path: of the file.
        dtype: of the values.
        length: how many were appended.
    """

    def __init__(self, folder: Path, name: str, dtype: DTypeLike) -> None:
        self.path, self.dtype, self.length = folder / f"{name}.bin", np.dtype(dtype), 0
        self._name = name
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Append values, which must fit the dtype."""
        self._file.write(_content(values, self.dtype))
        self.length += len(values)

    def narrow(self, dtype: DTypeLike) -> None:
        """Write the whole file anew in a smaller dtype; call it behind the ``with`` block."""
        narrow = self.path.with_suffix(".narrow")
        with self.path.open("rb") as wide, narrow.open("wb") as file:
            while len(block := np.fromfile(wide, dtype=self.dtype, count=_NARROW_BLOCK)):
                file.write(_content(block, dtype))
        narrow.replace(self.path)
        self.dtype = np.dtype(dtype)

    def finish(self) -> dict[str, tuple[str, int]]:
        """Dtype and length by name; call it behind the ``with`` block."""
        return {self._name: (self.dtype.str, self.length)}


class RowWriter:
    """Appends rows to ``<name>.bin``, values as int32, and ``<name>_indptr.bin``, (N + 1,) int64; a context manager.

    Args:
        folder: where.
        name: of the array of values.
        narrow: whether values become uint16 in the end where all of them fit.
    """

    def __init__(self, folder: Path, name: str, *, narrow: bool) -> None:
        self._narrow, self._largest = narrow, 0
        self._values = ArrayWriter(folder, name, np.int32)
        self._offsets = ArrayWriter(folder, f"{name}_indptr", np.int64)

    @property
    def rows(self) -> int:
        """How many were appended."""
        return self._offsets.length - 1

    def __enter__(self) -> Self:
        self._values.__enter__()
        self._offsets.__enter__()
        self._offsets.append(np.zeros(1, np.int64))
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._values.__exit__(*error)
        finally:  # closing writes what is left, which may fail
            self._offsets.__exit__(*error)

    def append(self, lengths: NDArray[np.int64], values: NDArray[np.integer[Any]]) -> None:
        """Append rows of these lengths, whose values stand one row behind the other."""
        assert values.min(initial=0) >= 0, "ids are never negative"
        self._largest = max(self._largest, int(values.max(initial=0)))
        assert self._largest < 2**31, "ids fit int32"
        assert lengths.sum() == len(values), "every value is in a row"
        self._offsets.append(self._values.length + np.cumsum(lengths, dtype=np.int64))
        self._values.append(values)

    def finish(self) -> dict[str, tuple[str, int]]:
        """Dtype and length of the two arrays by name; call it behind the ``with`` block."""
        if self._narrow and self._largest < _NARROW_LIMIT:
            self._values.narrow(np.uint16)
        return self._values.finish() | self._offsets.finish()


def _content(values: NDArray[Any], dtype: DTypeLike) -> memoryview:
    # Not by tofile(), which does not notice when the last few of them find no room on the disk.
    return np.ascontiguousarray(values, dtype).data
