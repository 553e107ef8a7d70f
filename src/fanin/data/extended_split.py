"""The rows of a split, and further rows behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.data.batches import gather_rows
from fanin.data.feature_rows import FeatureSplit
from fanin.data.store import TokenizedSplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fanin.data.batches import Split


class ExtendedSplit:
    """Two splits as one, both of tokens or both of dense features: row ``len(first) + i`` is row i of the second.

    Tokens and features stay where they are (those of a store are memory-mapped); offsets and labels are joined in
    memory, 8 bytes a row and 4 a positive.

    >>> from fanin.data.store import TokenizedSplit
    >>> def one(token, label):
    ...     return TokenizedSplit(np.array([0, 1]), np.array([token]), np.array([0, 1]), np.array([label]))
    >>> ExtendedSplit(one(7, 0), one(9, 3)).inputs(np.array([1, 0]))
    (array([9, 7]), array([0, 1, 2]))

    Args:
        first: the rows 0, 1, ...
        second: the rows after them.

    Attributes:
        first: as given.
        second: as given.
        labels_indptr: (N + 1,) int64.
        labels: (P,) int32.
    """

    def __init__(self, first: TokenizedSplit | FeatureSplit, second: TokenizedSplit | FeatureSplit) -> None:
        self.first, self.second = first, second
        self.labels_indptr: NDArray[np.int64] = np.concatenate(
            [first.labels_indptr, first.labels_indptr[-1] + second.labels_indptr[1:]]
        )
        self.labels: NDArray[np.int32] = np.concatenate([first.labels, second.labels])

    def __len__(self) -> int:
        """N, the number of rows of both."""
        return len(self.first) + len(self.second)

    def lengths(self) -> NDArray[np.int64]:
        """(N,) the number of tokens or features of each row."""
        return np.concatenate([self.first.lengths(), self.second.lengths()])

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let tokens or features and labels of some rows be read in the background."""
        further = rows >= len(self.first)  # (B,)
        self.first.read_ahead(rows[~further])
        self.second.read_ahead(rows[further] - len(self.first))

    def forget(self) -> None:
        """Give back the memory that what was read of both parts takes."""
        self.first.forget()
        self.second.forget()

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """What the parts give of some rows: tokens (T,) and offsets (B + 1,), or vectors (B, D0)."""
        further = rows >= len(self.first)  # (B,)
        ours, theirs = self.first.inputs(rows[~further]), self.second.inputs(rows[further] - len(self.first))
        place = np.empty(len(rows), dtype=np.int64)  # of each row among those of the first and then the second
        place[~further] = np.arange(np.count_nonzero(~further))
        place[further] = np.arange(len(rows) - np.count_nonzero(further), len(rows))
        if not isinstance(self.first, TokenizedSplit):
            return (np.concatenate([ours[0], theirs[0]])[place],)
        tokens, offsets = (np.concatenate([ours[0], theirs[0]]), np.concatenate([ours[1], ours[1][-1] + theirs[1][1:]]))
        return gather_rows(tokens, offsets, place)


def joined(sources: Sequence[tuple[Split, NDArray[np.int64]]]) -> tuple[Split, NDArray[np.int64]]:
    """One split, or two of one kind as one, and the rows of both that are wanted.

    Args:
        sources: one split or two, each with rows of it.
    """
    (first, rows), *further = sources
    if not further:
        return first, rows
    ((second, more),) = further
    assert isinstance(first, TokenizedSplit | FeatureSplit)
    assert isinstance(second, TokenizedSplit | FeatureSplit)
    return ExtendedSplit(first, second), np.concatenate([rows, len(first) + more])
