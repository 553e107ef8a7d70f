"""Counting what is frequent in a corpus of any size in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MOST_WORDS = 1 << 20
MOST_CODES = 1 << 22
_PENDING_CODES = 1 << 20


def count_words(texts: Iterable[list[str]], most: int = MOST_WORDS) -> Counter[str]:
    """How often each word stands in texts, for all words that are frequent enough.

    Once there are more than ``most`` words the rarest half is forgotten, and counts begin anew if they come again; so
    a count is too low by at most the sum of the counts up to which words were forgotten (lossy counting: Manku and
    Motwani, VLDB 2002). Up to ``most`` words all counts are exact.

    >>> count_words([["sea", "wolf"], ["sea"]]).most_common(1)
    [('sea', 2)]

    Args:
        texts: the words of each text.
        most: words that are counted at a time.
    """
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(words)
        if len(counts) > most:
            least = _least_kept(np.fromiter(counts.values(), np.int64, len(counts)), most // 2)
            counts = Counter({word: count for word, count in counts.items() if count >= least})
    return counts


class FrequentCodes:
    """Counts 64-bit codes as :func:`count_words` counts words.

    >>> frequent = FrequentCodes()
    >>> frequent.add(np.array([7, 5, 7], np.uint64))
    >>> frequent.finish()
    (array([5, 7], dtype=uint64), array([1, 2]))

    Args:
        most: codes that are counted at a time.
    """

    def __init__(self, most: int = MOST_CODES) -> None:
        self._most = most
        self._parts = [(np.empty(0, np.uint64), np.empty(0, np.int64))]  # the first is what was merged
        self._pending = 0

    def add(self, codes: NDArray[np.uint64]) -> None:
        """Count some codes, (n,)."""
        part = np.unique(codes, return_counts=True)
        self._parts.append(part)
        self._pending += len(part[0])
        if self._pending >= min(_PENDING_CODES, self._most):
            codes, counts = self._merged()
            if len(codes) > self._most:
                kept = counts >= _least_kept(counts, self._most // 2)
                codes, counts = codes[kept], counts[kept]
            self._parts, self._pending = [(codes, counts)], 0

    def finish(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The codes, ascending, and their counts."""
        return self._merged()

    def _merged(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        codes = np.concatenate([part[0] for part in self._parts])
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        first = np.flatnonzero(np.concatenate([np.ones(min(len(codes), 1), bool), codes[1:] != codes[:-1]]))
        counts = np.concatenate([part[1] for part in self._parts])[order]
        return codes[first], np.add.reduceat(counts, first) if len(first) else counts


def _least_kept(counts: NDArray[np.int64], most: int) -> int:
    """The least count of which, with all above it, there are at most ``most``."""
    return int(np.partition(counts, len(counts) - most - 1)[len(counts) - most - 1]) + 1
