"""The tokens that mark a label: the strongest ones of its positives' texts, and their weights."""

from __future__ import annotations

from functools import reduce
from itertools import starmap
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from fanin.labels.bounded_ranges import bounded_ranges
from fanin.labels.relevant_texts import MOST_WORK, relevant_texts
from fanin.labels.weighted_texts import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fanin.labels.relevant_texts import RelevantTexts
    from fanin.labels.weighted_texts import JoinedTexts, WeightedTexts


class MarkingTokens(NamedTuple):
    """The tokens of a range of index sets and the weights of their labels."""

    tokens: NDArray[np.int64]  # (s, F), strongest first, -1 behind the last
    weights: NDArray[np.float32]  # (C, F), of Euclidean norm 1 for every label that has texts, 0 at -1


def marking_tokens(
    texts: WeightedTexts | JoinedTexts,
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    fan_in: int,
    group_size: int,
) -> Iterator[tuple[int, MarkingTokens]]:
    """The ``fan_in`` strongest tokens of every index set, block by block of labels.

    A label's vector is the sum of its texts at norm 1; a set's tokens are those with the largest sum of squares over
    the vectors of its labels. A label's weights are its vector on these tokens, brought to norm 1 again.

    Args:
        texts: all N texts.
        indptr: (N + 1,) the positives of text i are ``labels[indptr[i]:indptr[i + 1]]``.
        labels: (P,) label ids, each once a text.
        rows: (n,) the texts to use, ascending.
        order: (L,) the label at each place; places of a group follow one another.
        fan_in: F, tokens of an index set.
        group_size: G, places that share an index set.

    Yields:
        The first place of a block, a multiple of G, and its tokens and weights.

    >>> from fanin.labels.weighted_texts import WeightedTexts
    >>> texts = WeightedTexts(np.array([0, 0, 1]), np.array([0, 1, 3]), np.float32([1, 1]))
    >>> indptr, labels = np.array([0, 1, 3]), np.array([0, 0, 1])
    >>> [(start, found)] = marking_tokens(texts, indptr, labels, np.arange(2), np.array([0, 1]), 1, 1)
    >>> start, found.tokens.tolist(), found.weights.tolist()
    (0, [[0], [0]], [[1.0], [1.0]])
    """
    for block in relevant_texts(
        indptr, labels, rows, order, texts.lengths, group_size=group_size, work_of_label=fan_in
    ):
        yield block.start, _strongest(unit_rows(_label_vectors(texts, block)), fan_in, group_size)


def _label_vectors(texts: WeightedTexts | JoinedTexts, block: RelevantTexts) -> sparse.csr_array:
    """The sum of the texts of every label of a block, (C, V), in float32."""
    C = block.stop - block.start
    if not len(block.row):
        return sparse.csr_array((C, texts.vocabulary_size), dtype=np.float32)
    rows, column = np.unique(block.row, return_inverse=True)

    def sums(first: int, last: int) -> sparse.csr_array:
        """Of the texts first to last."""
        own = (column >= first) & (column < last)
        ends = np.searchsorted(block.place[own], np.arange(C + 1))
        positives = (np.ones(int(ends[-1]), np.float32), column[own] - first, ends)
        return sparse.csr_array(positives, shape=(C, last - first)) @ texts.bags(rows[first:last])

    # One range but where a single group has more than one may have: then it is a sum of sums.
    return reduce(add, starmap(sums, bounded_ranges(texts.lengths(rows), MOST_WORK)))


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
