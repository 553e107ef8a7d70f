"""The tokens that mark a label: the strongest ones of its positives' texts, and their weights."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK_ENTRIES = 1 << 23  # entries of the texts that are summed at a time


class MarkingTokens(NamedTuple):
    """The tokens of a range of index sets and the weights of their labels."""

    tokens: NDArray[np.int64]  # (s, F), strongest first, -1 behind the last
    weights: NDArray[np.float32]  # (C, F), of Euclidean norm 1 for every label that has texts, 0 at -1


def text_rows(
    tokens: NDArray[np.integer], offsets: NDArray[np.int64], token_weights: NDArray[np.float32]
) -> sparse.csr_array:
    """Weighted bags of the first V tokens, each of Euclidean norm 1, (N, V).

    Args:
        tokens: (T,) token ids; those from V on are left out.
        offsets: (N + 1,) text i owns ``tokens[offsets[i]:offsets[i + 1]]``.
        token_weights: (V,) weight of each token, such as its inverse document frequency.

    >>> text_rows(np.array([0, 1, 2]), np.array([0, 2, 3]), np.float32([3, 4])).toarray().tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    N, V = len(offsets) - 1, len(token_weights)
    row = np.repeat(np.arange(N), np.diff(offsets))
    own = tokens < V
    row, token = row[own], tokens[own].astype(np.int64)
    rows = sparse.csr_array((token_weights[token], (row, token)), shape=(N, V), dtype=np.float32)
    rows.sum_duplicates()
    return _unit_rows(rows)


def marking_tokens(
    texts: sparse.csr_array, positives: sparse.csr_array, order: NDArray[np.int64], fan_in: int, group_size: int
) -> Iterator[tuple[int, MarkingTokens]]:
    """The ``fan_in`` strongest tokens of every index set, block by block of labels.

    A label's vector is the sum of its texts at norm 1; a set's tokens are those with the largest sum of squares over
    the vectors of its labels. A label's weights are its vector on these tokens, brought to norm 1 again.

    Args:
        texts: (N, V) of :func:`text_rows`.
        positives: (L, N), a 1 for each text of each label.
        order: (L,) the label at each place; places of a group follow one another.
        fan_in: F, tokens of an index set.
        group_size: G, places that share an index set.

    Yields:
        The first place of a block, a multiple of G, and its tokens and weights.

    >>> texts = text_rows(np.array([0, 0, 1]), np.array([0, 1, 3]), np.float32([1, 1]))
    >>> positives = sparse.csr_array(np.float32([[1, 1], [0, 1]]))
    >>> [(start, found)] = marking_tokens(texts, positives, np.array([0, 1]), fan_in=1, group_size=1)
    >>> start, found.tokens.tolist(), found.weights.tolist()
    (0, [[0], [0]], [[1.0], [1.0]])
    """
    lengths = np.diff(texts.indptr)  # (N,)
    work = np.asarray(positives @ lengths)[order]  # (L,)
    group = np.arange(len(order)) // group_size
    ends = np.cumsum(np.bincount(group, work))
    block = np.maximum(ends - 1, 0) // _BLOCK_ENTRIES  # of each group
    first_groups = np.flatnonzero(np.diff(block, prepend=-1))
    for start, stop in pairwise([*(first_groups * group_size).tolist(), len(order)]):
        yield start, _strongest(_unit_rows(positives[order[start:stop]] @ texts), fan_in, group_size)


def _strongest(vectors: sparse.csr_array, fan_in: int, group_size: int) -> MarkingTokens:
    C, V = vectors.shape
    s = -(-C // group_size)
    label = np.repeat(np.arange(C), np.diff(vectors.indptr))  # of every entry of the vectors
    energy = vectors.power(2)
    if group_size > 1:
        member = np.arange(C)
        grouping = sparse.csr_array((np.ones(C, np.float32), (member // group_size, member)), shape=(s, C))
        energy = sparse.csr_array(grouping @ energy)
        energy.sort_indices()
    group = np.repeat(np.arange(s), np.diff(energy.indptr))  # of every entry of the energy
    strongest_first = np.lexsort((energy.indices, -energy.data, group))
    place = np.arange(len(group)) - energy.indptr[group]
    slot = np.full(len(group), -1)
    slot[strongest_first] = np.where(place < fan_in, place, -1)
    tokens = np.full((s, fan_in), -1, np.int64)
    kept = slot >= 0
    tokens[group[kept], slot[kept]] = energy.indices[kept]
    if group_size > 1:  # every entry of a vector has its token among those of its group
        slot = slot[np.searchsorted(group * V + energy.indices, label // group_size * V + vectors.indices)]
        kept = slot >= 0
    weights = np.zeros((C, fan_in), np.float32)
    weights[label[kept], slot[kept]] = vectors.data[kept]
    norm = np.linalg.norm(weights, axis=1, keepdims=True)
    return MarkingTokens(tokens, weights / np.maximum(norm, np.finfo(np.float32).tiny))


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """The matrix with each row at Euclidean norm 1; rows of zeros stay."""
    matrix = sparse.csr_array(matrix)
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    squares = np.bincount(row, matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[0])
    matrix.data /= np.sqrt(squares)[row].astype(np.float32).clip(np.finfo(np.float32).tiny)
    return matrix
