"""The rows of a tokenised split, and further rows behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fanin.data.batches import gather_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fanin.data.store import TokenizedSplit


class ExtendedSplit:
    """Two tokenised splits as one: row ``len(first) + i`` is row i of the second.

    Tokens stay where they are (those of a store are memory-mapped); offsets and labels are joined in memory, 8 bytes a
    row and 4 a positive.

    >>> from fanin.data.store import TokenizedSplit
    >>> def one(token, label):
    ...     return TokenizedSplit(np.array([0, 1]), np.array([token]), np.array([0, 1]), np.array([label]))
    >>> ExtendedSplit(one(7, 0), one(9, 3)).inputs(np.array([1, 0]))
    (array([9, 7]), array([0, 1, 2]))

    Args:
        first: the rows 0, 1, ...
        second: the rows after them.

    Attributes:
        labels_indptr: (N + 1,) int64.
        labels: (P,) int32.
    """

    def __init__(self, first: TokenizedSplit, second: TokenizedSplit) -> None:
        self._first, self._second = first, second
        self.labels_indptr: NDArray[np.int64] = np.concatenate(
            [first.labels_indptr, first.labels_indptr[-1] + second.labels_indptr[1:]]
        )
        self.labels: NDArray[np.int32] = np.concatenate([first.labels, second.labels])

    def __len__(self) -> int:
        """N, the number of rows of both."""
        return len(self._first) + len(self._second)

    def lengths(self) -> NDArray[np.int64]:
        """(N,) the number of tokens of each row."""
        return np.concatenate([self._first.lengths(), self._second.lengths()])

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let tokens and labels of some rows be read in the background."""
        further = rows >= len(self._first)  # (B,)
        self._first.read_ahead(rows[~further])
        self._second.read_ahead(rows[further] - len(self._first))

    def forget(self) -> None:
        """Give back the memory that what was read of both parts takes."""
        self._first.forget()
        self._second.forget()

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens (T,) of some rows, one row behind the other, and their offsets (B + 1,)."""
        further = rows >= len(self._first)  # (B,)
        tokens, offsets = self._first.inputs(rows[~further])
        more, more_offsets = self._second.inputs(rows[further] - len(self._first))
        place = np.empty(len(rows), dtype=np.int64)  # of each row among those of the first and then the second
        place[~further] = np.arange(len(offsets) - 1)
        place[further] = np.arange(len(offsets) - 1, len(rows))
        both, both_offsets = np.concatenate([tokens, more]), np.concatenate([offsets, offsets[-1] + more_offsets[1:]])
        return gather_rows(both, both_offsets, place)
