"""Batches of a tokenised split as flat arrays, in an order that depends on seed and epoch alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fanin.data.store import TokenizedSplit


class Batch(NamedTuple):
    """B rows; all arrays int64, contiguous and writable, as ``torch.from_numpy`` wants them."""

    rows: NDArray[np.int64]  # (B,) row numbers in the split
    tokens: NDArray[np.int64]  # (T,) the token ids of all rows, one row behind the other
    offsets: NDArray[np.int64]  # (B + 1,) row i owns tokens[offsets[i]:offsets[i + 1]]
    indptr: NDArray[np.int64]  # (B + 1,) row i owns indices[indptr[i]:indptr[i + 1]]
    indices: NDArray[np.int64]  # (P,) relevant labels

    def __len__(self) -> int:
        """B, the number of rows."""
        return len(self.rows)


class Batches:
    """All rows of a split, or some of them, in batches; the last may be short, none is dropped.

    Args:
        split: the tokenised rows.
        batch_size: B.
        seed: with the epoch's number it keys the order.
        shuffle: whether each epoch has a new random order; otherwise rows come as they stand.
        rows: (n,) row numbers to go through instead of all.

    Raises:
        ConfigError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        split: TokenizedSplit,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size} must be at least 1")
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._rows = np.arange(len(split), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self._rows) / self._batch_size)

    @property
    def n_rows(self) -> int:
        """Rows in an epoch."""
        return len(self._rows)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number ``epoch``, from batch number ``start`` on."""
        assert 0 <= start <= len(self), f"there are {len(self)} batches in an epoch"
        rows = self._rows
        if self._shuffle:
            rows = rows[np.random.default_rng([self._seed, epoch]).permutation(len(rows))]
        for begin in range(start * self._batch_size, len(rows), self._batch_size):
            yield self._gather(rows[begin : begin + self._batch_size])

    def _gather(self, rows: NDArray[np.int64]) -> Batch:
        split = self._split
        tokens, token_indptr = gather_rows(split.tokens, split.tokens_indptr, rows)
        labels, label_indptr = gather_rows(split.labels, split.labels_indptr, rows)
        return Batch(rows.copy(), tokens, token_indptr, label_indptr, labels)


def gather_rows(
    values: NDArray[np.uint16] | NDArray[np.int32],
    indptr: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of some rows of a CSR and their (B + 1,) offsets."""
    begin = indptr[rows]
    length = indptr[rows + 1] - begin
    out_indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(length, out=out_indptr[1:])
    places = np.arange(out_indptr[-1]) + np.repeat(begin - out_indptr[:-1], length)
    return values[places].astype(np.int64), out_indptr
