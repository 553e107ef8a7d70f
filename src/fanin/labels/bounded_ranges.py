"""Ranges of a sequence that are small enough to be worked on at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def bounded_ranges(sizes: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of things that together have a size of at most ``most``, or are one thing; each is as long as it can be.

    >>> list(bounded_ranges(np.array([2, 1, 9, 1, 0]), 3))
    [(0, 2), (2, 3), (3, 5)]

    Args:
        sizes: (n,) of each thing, none negative.
        most: of a range.

    Yields:
        First place and the place behind the last, from 0 to n without gaps.
    """
    ends = np.cumsum(sizes)
    lo = 0
    while lo < len(sizes):
        reach = ends[lo] - sizes[lo] + most
        hi = max(int(np.searchsorted(ends, reach, side="right")), lo + 1)
        yield lo, hi
        lo = hi
