"""Features of texts in place of their tokens: dense or sparse rows, and a split of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fanin.data.batches import gather_rows, join_offsets
from fanin.mapped_arrays import forget, will_need

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


MAPPED_WHOLE = 1 << 28
"""Bytes of dense features that may come to be mapped as a whole; of more, what was read is given back at once."""

ROWS_MAPPED = 32
"""Rows of so many features that are copied at a time: with one by itself the system may map 2 MiB around it."""


class FeatureSizes(NamedTuple):
    """How large features are.

    Attributes:
        columns: D0, the number of features.
        feature_bytes: bytes of a value of dense features; 0 where they are sparse.
        values_per_text: mean number of sparse features of a text, of the first texts; 0 where they are dense.
    """

    columns: int
    feature_bytes: int
    values_per_text: float

    @property
    def sparse(self) -> bool:
        """Whether they are sparse."""
        return not self.feature_bytes


@dataclass(frozen=True)
class DenseFeatures:
    """A vector a text.

    Attributes:
        values: (N, D0) float16, float32 or float64; may be memory-mapped.
    """

    values: NDArray[np.floating[Any]]

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.values)

    @property
    def columns(self) -> int:
        """D0, the number of features."""
        return int(self.values.shape[1])

    def lengths(self) -> NDArray[np.int64]:
        """(N,) D0 everywhere."""
        return np.full(len(self), self.columns)

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32]]:
        """The vectors (B, D0) float32 of some rows; of a large file nothing of them stays mapped."""
        if self.values.nbytes <= MAPPED_WHOLE:
            return (np.ascontiguousarray(self.values[rows], dtype=np.float32),)
        vectors = np.empty((len(rows), self.columns), np.float32)
        for start in range(0, len(rows), ROWS_MAPPED):
            vectors[start : start + ROWS_MAPPED] = self.values[rows[start : start + ROWS_MAPPED]]
            forget(self.values)
        return (vectors,)

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let the vectors of some rows be read in the background."""
        will_need(self.values, rows, rows + 1)

    def forget(self) -> None:
        """Give back the memory that the vectors read so far take."""
        forget(self.values)


@dataclass(frozen=True)
class SparseFeatures:
    """A bag of features a text, as CSR; row i owns ``indices[indptr[i]:indptr[i + 1]]`` and their values.

    Attributes:
        indptr: (N + 1,) int64.
        indices: (Z,) int32 in [0, columns).
        values: (Z,) float32.
        columns: D0, the number of features.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    columns: int

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.indptr) - 1

    def lengths(self) -> NDArray[np.int64]:
        """(N,) the number of features of each row."""
        return np.diff(self.indptr)

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Features (Z,), offsets (B + 1,) and values (Z,) of some rows, one row behind the other."""
        indices, offsets = gather_rows(self.indices, self.indptr, rows)
        places = np.arange(offsets[-1]) + np.repeat(self.indptr[rows] - offsets[:-1], np.diff(offsets))
        return indices, offsets, self.values[places]

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let the features of some rows be read in the background."""
        for array in (self.indices, self.values):
            will_need(array, self.indptr[rows], self.indptr[rows + 1])

    def forget(self) -> None:
        """Give back the memory that the features read so far take."""
        forget(self.indices)
        forget(self.values)


def join_features(blocks: Iterable[SparseFeatures], columns: int) -> SparseFeatures:
    """Blocks of rows of so many features, one behind the other; there may be none."""
    parts = list(blocks)
    indices = np.concatenate([np.empty(0, np.int32), *(part.indices for part in parts)])
    values = np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)])
    return SparseFeatures(join_offsets(part.indptr for part in parts), indices, values, columns)


@dataclass(frozen=True)
class FeatureSplit:
    """The rows of a split that an encoder reads as features.

    Attributes:
        features: of N texts.
        labels_indptr: (N + 1,) int64.
        labels: (P,) int32, sorted within a row and without duplicates.
    """

    features: DenseFeatures | SparseFeatures
    labels_indptr: NDArray[np.int64]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.features)

    def lengths(self) -> NDArray[np.int64]:
        """(N,) the number of values of each row."""
        return self.features.lengths()

    def inputs(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """What a feature encoder reads of some rows."""
        return self.features.inputs(rows)

    def read_ahead(self, rows: NDArray[np.int64]) -> None:
        """Let features and labels of some rows be read in the background."""
        self.features.read_ahead(rows)
        will_need(self.labels, self.labels_indptr[rows], self.labels_indptr[rows + 1])

    def forget(self) -> None:
        """Give back the memory that what was read of features and labels takes."""
        self.features.forget()
        forget(self.labels)
