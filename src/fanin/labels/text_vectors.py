"""TF-IDF vectors of tokenised texts, projected at random to a few dense features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DEFAULT_DIM = 256

_COUNT_TOKENS = 1 << 22  # tokens counted at a time


class TextProjection:
    """TF-IDF vectors of texts in a space of ``dim`` random features, in which cosines are nearly those of TF-IDF.

    A text's weight on a token is (1 + ln tf) ln((N + 1) / (df + 1/2)), with tf its occurrences in the text and df the
    number of the N fitted texts that hold it. The weights are scaled to length 1 and multiplied by a (V, dim) matrix of
    normal numbers of variance 1 / dim (Johnson and Lindenstrauss), so that no (texts, V) array exists.

    >>> tokens, offsets = np.array([0, 1, 0, 2, 2]), np.array([0, 2, 5])
    >>> TextProjection(tokens, offsets, vocabulary_size=3, dim=4).vectors(tokens, offsets).shape
    (2, 4)

    Args:
        tokens: (T,) integer token ids below V, those of one text behind those of another.
        offsets: (N + 1,) text i owns ``tokens[offsets[i]:offsets[i + 1]]``.
        vocabulary_size: V.
        rows: the texts to count token frequencies on, e.g. those trained on; by default all.
        dim: features of a vector.
        seed: of the projection.

    Raises:
        ConfigError: ``dim`` is below 1.
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        offsets: NDArray[np.int64],
        *,
        vocabulary_size: int,
        rows: NDArray[np.int64] | None = None,
        dim: int = DEFAULT_DIM,
        seed: int = 0,
    ) -> None:
        if dim < 1:
            raise ConfigError(f"label features of dim = {dim} are impossible; use at least 1 (default {DEFAULT_DIM})")
        rows = np.arange(len(offsets) - 1) if rows is None else rows
        frequency = np.zeros(vocabulary_size, np.int64)  # (V,)
        for part in row_blocks(offsets, rows):
            _, token, _ = _distinct(*gather(tokens, offsets, part))
            frequency += np.bincount(token, minlength=vocabulary_size)
        self.dim = dim
        self._idf = np.log((len(rows) + 1) / (frequency + 0.5)).astype(np.float32)
        table = np.random.default_rng(seed).standard_normal((vocabulary_size, dim), np.float32)
        self._table = torch.from_numpy(table).mul_(dim**-0.5)

    def vectors(
        self, tokens: NDArray[np.integer], offsets: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """The projected vectors of some texts, or all; texts without tokens get zeros.

        Args:
            tokens: (T,) token ids.
            offsets: (N + 1,) as above.
            rows: (n,) the texts wanted, by default all N.

        Returns:
            (n, dim) float32.
        """
        rows = np.arange(len(offsets) - 1) if rows is None else rows
        result = np.zeros((len(rows), self.dim), np.float32)
        done = 0
        for part in row_blocks(offsets, rows):
            row, token, count = _distinct(*gather(tokens, offsets, part))
            weight = (1 + np.log(count)).astype(np.float32) * self._idf[token]
            length = np.sqrt(np.bincount(row, weight.astype(np.float64) ** 2, minlength=len(part)))
            weight /= length[row]
            starts = np.searchsorted(row, np.arange(len(part)))
            block = embedding_bag(
                torch.from_numpy(token),
                self._table,
                torch.from_numpy(starts),
                mode="sum",
                per_sample_weights=torch.from_numpy(weight),
            )
            result[done : done + len(part)] = block.numpy()
            done += len(part)
        return result


def gather(
    values: NDArray[np.integer], offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of some rows, one row behind the other, and for each value the place of its row among the rows."""
    begin = np.asarray(offsets[rows])
    length = offsets[rows + 1] - begin
    before = np.cumsum(length) - length
    places = np.arange(length.sum()) + np.repeat(begin - before, length)
    return np.repeat(np.arange(len(rows)), length), values[places].astype(np.int64)


def row_blocks(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows in order, in blocks of a bounded number of values (one row at least)."""
    ends = np.cumsum(offsets[rows + 1] - offsets[rows])
    block = np.maximum(ends - 1, 0) // _COUNT_TOKENS
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(block)) + 1):
        yield rows[part]


def _distinct(
    row: NDArray[np.int64], token: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs of row and token, sorted, and how often each stands."""
    width = int(token.max(initial=0)) + 1
    keys = np.sort(row * width + token)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    count = np.diff(first, append=len(keys))
    return keys[first] // width, keys[first] % width, count
