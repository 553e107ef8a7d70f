"""Hashes that are the same on every machine and in every process, and the buckets made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def string_bucket(text: str, buckets: int) -> int:
    """Bucket in [0, buckets) of a string, by the CRC-32 of its UTF-8 bytes."""
    return crc32(text.encode("utf-8", "surrogatepass")) % buckets


def character_ngrams(word: str, shortest: int = 3, longest: int = 4) -> list[str]:
    """The character n-grams of a word marked with ``<`` and ``>`` at its ends.

    Example:
        >>> character_ngrams("sea", 3, 4)
        ['<se', 'sea', 'ea>', '<sea', 'sea>']
    """
    marked = f"<{word}>"
    return [marked[i : i + n] for n in range(shortest, longest + 1) for i in range(len(marked) - n + 1)]


def pair_codes(units: NDArray[np.int32], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Codes of the adjacent pairs of units within each text: first unit in the high, second in the low 32 bits.

    Args:
        units: (N,) units of all texts, one after the other.
        lengths: (B,) units of each text.

    Returns:
        Codes (M,) and the text in which each stands, (M,), ascending.
    """
    texts = np.repeat(np.arange(len(lengths)), lengths)  # (N,)
    inside = texts[1:] == texts[:-1]
    wide = units.astype(np.uint64)
    codes = (wide[:-1] << np.uint64(32)) | wide[1:]
    return codes[inside], texts[:-1][inside]
