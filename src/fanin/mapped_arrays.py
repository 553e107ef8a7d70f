"""Arrays in files, memory-mapped, and what is read of them ahead of time."""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray


def map_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """The content of a file as a read-only array; nothing is read before it is looked at.

    Args:
        path: raw values, nothing else.
        dtype: of a value.
        shape: of the array, as large as the file.
    """
    if 0 in shape:  # an empty file cannot be mapped
        return np.empty(shape, dtype=dtype)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=dtype).reshape(shape)


def will_need(array: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
    """Let the operating system read ranges of a mapped array in the background; of any other array do nothing.

    Without it every row that is not in memory would be waited for, and much around it read for nothing.

    Args:
        array: (N, ...) contiguous.
        starts: (n,) first places along the first axis.
        stops: (n,) places behind the last ones.
    """
    found = _mapping(array)
    if found is None or not hasattr(mmap, "MADV_WILLNEED"):
        return
    mapped, offset = found
    first = (offset + starts * array.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    length = offset + stops * array.strides[0] - first
    wanted = stops > starts
    with contextlib.suppress(OSError):  # an advice, nothing more
        for start, size in zip(first[wanted].tolist(), length[wanted].tolist(), strict=True):
            mapped.madvise(mmap.MADV_WILLNEED, start, size)


def forget(array: NDArray[Any]) -> None:
    """Give back the memory that what was read of a mapped array takes; of any other array do nothing.

    After a pass over all of it little is needed again soon, and that comes back from the system's own memory of files.
    """
    found = _mapping(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError):  # an advice, nothing more
            found[0].madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[Any]) -> tuple[mmap.mmap, int] | None:
    """The mapping that an array views, and at which byte of it the array begins."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(owner, mmap.mmap):
        return None
    return owner, _address(array) - _address(np.frombuffer(owner, np.uint8))


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
