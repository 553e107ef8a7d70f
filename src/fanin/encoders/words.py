"""Text to words: normalisation, splitting, and a vocabulary in which unknown words fall into hash buckets."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from fanin.encoders.frequent import count_words
from fanin.encoders.hashing import string_bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")


def split_words(text: str) -> list[str]:
    """Words of a text: compatibility-decomposed (NFKD), without accents, case-folded, without punctuation.

    Example:
        >>> split_words("Émile Zola's “L’Œuvre”, 1886")
        ['emile', 'zola', 's', 'l', 'œuvre', '1886']
    """
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    return _WORD.findall(text.lower())


class WordVocabulary:
    """Words with a unit of their own, the most frequent first, and hash buckets for all others.

    Units: ``[0, V)`` the words, ``[V, V + buckets)`` the buckets.

    Args:
        words: in the order of their units, without duplicates.
        buckets: hash buckets of the other words, at least 1.
    """

    def __init__(self, words: Sequence[str], buckets: int) -> None:
        self.words = tuple(words)
        self.buckets = buckets
        self._unit = {word: unit for unit, word in enumerate(self.words)}
        assert len(self._unit) == len(self.words)
        assert buckets >= 1

    @classmethod
    def train(cls, texts: Iterable[str], size: int, min_count: int, buckets: int) -> WordVocabulary:
        """Takes the ``size`` most frequent words of at least ``min_count`` occurrences; ties in code point order."""
        counts = count_words(map(split_words, texts))
        frequent = [(-count, word) for word, count in counts.items() if count >= min_count]
        return cls([word for _, word in sorted(frequent)[:size]], buckets)

    @property
    def unit_count(self) -> int:
        """Units in all, V + buckets."""
        return len(self.words) + self.buckets

    def units(self, words: Sequence[Sequence[str]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Units of already split texts: all units (N,) and how many each text has (B,)."""
        known, first_bucket, buckets = self._unit, len(self.words), self.buckets
        flat = [
            unit if (unit := known.get(word)) is not None else first_bucket + string_bucket(word, buckets)
            for text in words
            for word in text
        ]
        return np.array(flat, np.int32), np.array([len(text) for text in words], np.int64)

    def __contains__(self, word: str) -> bool:
        return word in self._unit
