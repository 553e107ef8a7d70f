"""Texts as weighted bags of their tokens, made of some texts at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from fanin.labels.text_vectors import gather
from fanin.mapped_arrays import forget

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WeightedTexts:
    """Weighted bags of the first V tokens of texts, each of Euclidean norm 1; nothing of them is held.

    >>> texts = WeightedTexts(np.array([0, 1, 2]), np.array([0, 2, 3]), np.float32([3, 4]))
    >>> texts.bags(np.array([1, 0])).toarray().tolist()
    [[0.0, 0.0], [0.6000000238418579, 0.800000011920929]]

    Args:
        tokens: (T,) token ids, perhaps in a file; those from V on are left out.
        offsets: (N + 1,) text i owns ``tokens[offsets[i]:offsets[i + 1]]``.
        token_weights: (V,) weight of each token, such as its inverse document frequency.
    """

    def __init__(
        self, tokens: NDArray[np.integer], offsets: NDArray[np.int64], token_weights: NDArray[np.float32]
    ) -> None:
        self._tokens, self._offsets, self._token_weights = tokens, offsets, token_weights

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self._token_weights)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens some texts have, (n,); their bags have no more entries."""
        return self._offsets[rows + 1] - self._offsets[rows]

    def bags(self, rows: NDArray[np.int64]) -> sparse.csr_array:
        """The bags of some texts (n,), as (n, V) float32 with sorted indices."""
        row, token = gather(self._tokens, self._offsets, rows)
        forget(self._tokens)
        own = token < self.vocabulary_size
        indices = token[own].astype(np.int32)
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.bincount(row[own], minlength=len(rows)), out=indptr[1:])
        shape = (len(rows), self.vocabulary_size)
        bags = sparse.csr_array((self._token_weights[indices], indices, indptr), shape=shape)
        bags.sum_duplicates()
        return unit_rows(bags)


class JoinedTexts:
    """Two sets of texts as one: row ``n_first + i`` is row i of the second.

    >>> one = WeightedTexts(np.array([0]), np.array([0, 1]), np.float32([3, 4]))
    >>> other = WeightedTexts(np.array([1, 1]), np.array([0, 2]), np.float32([3, 4]))
    >>> JoinedTexts(one, 1, other).bags(np.array([1, 0])).toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]

    Args:
        first: the rows 0, 1, ...
        n_first: how many these are.
        second: the rows after them, of the same vocabulary.
    """

    def __init__(self, first: WeightedTexts, n_first: int, second: WeightedTexts) -> None:
        assert first.vocabulary_size == second.vocabulary_size
        self._first, self._n_first, self._second = first, n_first, second

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self._first.vocabulary_size

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """As :meth:`WeightedTexts.lengths`."""
        further = rows >= self._n_first  # (n,)
        result = np.empty(len(rows), np.int64)
        result[~further] = self._first.lengths(rows[~further])
        result[further] = self._second.lengths(rows[further] - self._n_first)
        return result

    def bags(self, rows: NDArray[np.int64]) -> sparse.csr_array:
        """As :meth:`WeightedTexts.bags`."""
        further = rows >= self._n_first  # (n,)
        ours, theirs = self._first.bags(rows[~further]), self._second.bags(rows[further] - self._n_first)
        place = np.empty(len(rows), np.int64)  # of each row among those of the first and then the second
        place[~further] = np.arange(ours.shape[0])
        place[further] = np.arange(ours.shape[0], len(rows))
        return sparse.csr_array(sparse.vstack([ours, theirs], format="csr")[place])


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """The matrix with each row at Euclidean norm 1, rows of zeros as they are; its values are changed in place."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    squares = np.bincount(row, matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[0])
    matrix.data /= np.sqrt(squares)[row].astype(np.float32).clip(np.finfo(np.float32).tiny)
    return matrix
