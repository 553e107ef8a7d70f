"""Batches of a split as flat arrays, in an order that depends on seed and epoch alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Inputs: TypeAlias = tuple[NDArray[Any], ...]


_BATCHES_AHEAD = 4
ROWS_KEPT = 2048
"""Rows read before what they have brought into memory is given back; one by itself brings up to 64 KiB of its file."""


class Split(Protocol):
    """The rows of a split: what an encoder reads of each, and its relevant labels."""

    @property
    def labels_indptr(self) -> NDArray[np.int64]:
        """(N + 1,) row i owns ``labels[labels_indptr[i]:labels_indptr[i + 1]]``."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """(P,) label ids, sorted within a row and without duplicates."""

    def __len__(self) -> int:
        """N, the number of rows."""

    def lengths(self) -> NDArray[np.int64]:
        """(N,) how much an encoder has to read of each row."""

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """The arguments of an encoder for some rows, contiguous and writable, as ``torch.from_numpy`` wants them."""

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let what :meth:`inputs` and the labels need of some rows be read from disk, where it lies there."""

    def forget(self) -> None:
        """Give back the memory that what was read from disk takes."""


class Batch(NamedTuple):
    """B rows; all arrays contiguous and writable, as ``torch.from_numpy`` wants them, and int64 where they count."""

    rows: NDArray[np.int64]  # (B,) row numbers in the split
    inputs: Inputs  # the arguments of an encoder, perhaps for a part of the rows; of texts their tokens and offsets
    indptr: NDArray[np.int64]  # (B + 1,) row i owns indices[indptr[i]:indptr[i + 1]]
    indices: NDArray[np.int64]  # (P,) relevant labels

    def __len__(self) -> int:
        """B, the number of rows."""
        return len(self.rows)


class Batches:
    """All rows of a split, or some of them, in batches; the last may be short, none is dropped.

    The order is a permutation of all rows, wherever they lie; the rows of the next few batches are read ahead in the
    background, so that a split that is larger than memory is not waited for row by row. What was read is given back
    every 2,048 rows, so that a process holds no more of a large file after many batches than after a few.

    Args:
        split: the rows.
        batch_size: B.
        seed: with the epoch's number it keys the order.
        shuffle: whether each epoch has a new random order; otherwise rows come as they stand.
        rows: (n,) row numbers to go through instead of all.
        length_window: how many shuffled batches are sorted by the lengths of their rows before they are cut (and
            shuffled again), so that a batch holds rows of about one length and needs little padding; 1 sorts nothing.
        own_rows: which of so many rows of a batch an encoder here is to read; by default all. Labels are all rows'.

    Raises:
        ConfigError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rows: NDArray[np.int64] | None = None,
        length_window: int = 1,
        own_rows: Callable[[int], slice] = slice,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size} must be at least 1")
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._length_window = length_window
        self._own_rows = own_rows
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
            generator = np.random.default_rng([self._seed, epoch])
            rows = rows[generator.permutation(len(rows))]
            if self._length_window > 1:
                rows = self._by_length(rows, generator)
        first, ahead = start * self._batch_size, _BATCHES_AHEAD * self._batch_size
        if self._shuffle:
            self._split.read_ahead(rows[first : first + ahead])
        for begin in range(first, len(rows), self._batch_size):
            if self._shuffle:
                self._split.read_ahead(rows[begin + ahead : begin + ahead + self._batch_size])
            if begin // ROWS_KEPT > (begin - self._batch_size) // ROWS_KEPT:
                self._split.forget()
            yield self._gather(rows[begin : begin + self._batch_size])

    def _gather(self, rows: NDArray[np.int64]) -> Batch:
        split = self._split
        labels, label_indptr = gather_rows(split.labels, split.labels_indptr, rows)
        return Batch(rows.copy(), split.inputs(rows[self._own_rows(len(rows))]), label_indptr, labels)

    def _by_length(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Shuffled rows in an order that cuts into batches of rows of about one length."""
        window, size = self._length_window * self._batch_size, self._batch_size
        lengths = self._split.lengths()[rows]
        order = np.lexsort((lengths, np.arange(len(rows)) // window))
        whole = len(rows) // size  # the last, short batch stays where it is
        batches = order[: whole * size].reshape(whole, size)
        order[: whole * size] = batches[generator.permutation(whole)].ravel()
        return rows[order]


def gather_rows(
    values: NDArray[np.uint16] | NDArray[np.int32],
    indptr: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of some rows of a CSR and their (B + 1,) offsets."""
    places, out_indptr = row_places(indptr, rows)
    return values[places].astype(np.int64), out_indptr


def row_places(indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the values of some rows of a CSR stand, one row after the other, and their (B + 1,) offsets.

    >>> row_places(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([2, 3, 4, 0, 1]), array([0, 3, 5]))
    """
    begin = indptr[rows]
    length = indptr[rows + 1] - begin
    out_indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(length, out=out_indptr[1:])
    return np.arange(out_indptr[-1]) + np.repeat(begin - out_indptr[:-1], length), out_indptr


def join_offsets(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The offsets (N + 1,) of several CSRs, one behind the other; there may be none.

    >>> join_offsets([np.array([0, 2]), np.array([0, 1, 4])])
    array([0, 2, 3, 6])
    """
    lengths = np.concatenate([np.empty(0, np.int64), *map(np.diff, parts)])
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    return indptr
