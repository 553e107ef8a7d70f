"""Amounts of memory in words."""

from __future__ import annotations


def gibibytes(count: float) -> str:
    """An amount of memory in words.

    >>> gibibytes(3.25 * 2**30), gibibytes(80 * 2**20)
    ('3.2 GiB', '80 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
