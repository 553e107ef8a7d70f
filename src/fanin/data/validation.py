"""Which training rows are held out for validation, where a data set has no dev split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fanin.data.store import TokenizedSplit
from fanin.errors import DataError
from fanin.labels.bounded_ranges import bounded_ranges
from fanin.mapped_arrays import forget

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fanin.data.batches import Split

_BLOCK_ROWS = 1 << 12
_BLOCK_VALUES = 1 << 19  # of features, 64 bytes each at work
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def row_keys(split: Split) -> NDArray[np.uint64]:
    """A key of what an encoder reads of every row, (N,): equal where it is equal, features in any order."""
    if isinstance(split, TokenizedSplit):
        return text_keys(split)
    keys = np.empty(len(split), dtype=np.uint64)
    for start, stop in bounded_ranges(split.lengths(), _BLOCK_VALUES):
        rows = np.arange(start, stop)
        first, *rest = split.inputs(rows)
        if rest:  # sparse features: columns, offsets, values
            offsets, values = rest
            mixed = _scrambled(_scrambled(first.astype(np.uint64) + np.uint64(1)) + _bits(values))
            sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed, dtype=np.uint64)])
            keys[rows] = _scrambled(sums[offsets[1:]] - sums[offsets[:-1]])
        else:
            columns = _scrambled(np.arange(1, first.shape[1] + 1, dtype=np.uint64))
            keys[rows] = _scrambled(_scrambled(columns + _bits(first)).sum(axis=1, dtype=np.uint64))
        split.forget()
    return keys


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    return values.view(np.uint32).astype(np.uint64)


def text_keys(split: TokenizedSplit) -> NDArray[np.uint64]:
    """A key of every row's tokens, (N,): equal for equal texts, and otherwise different but for one case in 2^64."""
    keys = np.empty(len(split), dtype=np.uint64)
    for start in range(0, len(split), _BLOCK_ROWS):
        indptr = split.tokens_indptr[start : start + _BLOCK_ROWS + 1]
        tokens = split.tokens[indptr[0] : indptr[-1]].astype(np.uint64)
        lengths = np.diff(indptr)
        place = np.arange(len(tokens)) - np.repeat(indptr[:-1] - indptr[0], lengths)
        mixed = _scrambled(_scrambled(tokens + np.uint64(1)) + place.astype(np.uint64))
        sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed, dtype=np.uint64)])
        ends = indptr - indptr[0]
        keys[start : start + _BLOCK_ROWS] = _scrambled(sums[ends[1:]] - sums[ends[:-1]])
        forget(split.tokens)
    return keys


def draw_validation(keys: NDArray[np.uint64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows at random into rows to train on and rows to validate on; rows of one key stay together.

    A text that stands in several rows would otherwise be learned from one and predicted in another, which no test
    set allows, and the validation scores would be too high.

    Args:
        keys: (N,) what rows must not be parted by.
        share: of the distinct keys that go to validation, in (0, 1); at least one does.
        seed: of the draw.

    Returns:
        The two sets of row numbers, int64, each ascending.

    Raises:
        DataError: all rows have one key, so that nothing can be held out.
    """
    assert 0 < share < 1, "a share of the rows"
    distinct, group = np.unique(keys, return_inverse=True)
    if len(distinct) < 2:
        raise DataError(f"the {len(keys)} training texts are all equal, too few to hold out any for validation")
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    held_out = np.zeros(len(distinct), dtype=bool)
    held_out[np.random.default_rng([seed, len(distinct)]).permutation(len(distinct))[:count]] = True
    return np.flatnonzero(~held_out[group]), np.flatnonzero(held_out[group])


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(32))) * _MULTIPLIER
    values = (values ^ (values >> np.uint64(29))) * _MULTIPLIER
    return values ^ (values >> np.uint64(32))
