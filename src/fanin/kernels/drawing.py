"""Random index sets, defined exactly so that every backend draws the same ones.

Floyd's sampling without replacement (Bentley and Floyd, CACM 1987) over a counter-based generator: draw ``i`` of set
``s`` depends on (seed, s, i) alone, so sets can be drawn in any order, on any number of threads or processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser of ``value + golden ratio`` (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MULTIPLY_1
    value = (value ^ (value >> np.uint64(27))) * _MULTIPLY_2
    return value ^ (value >> np.uint64(31))


def mix_seed(seed: int, stream: int) -> int:
    """A new 63-bit seed for ``stream`` (a step number, a purpose) of ``seed``.

    >>> mix_seed(1, 2) == mix_seed(1, 2), mix_seed(1, 2) == mix_seed(1, 3)
    (True, False)
    """
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    return int(mix(key ^ mix(np.array([stream], dtype=np.uint64)))[0] >> np.uint64(1))


def draw(seed: int, sets: NDArray[np.int64], i: int, bound: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw number ``i`` of each set, uniform in [0, bound); bounds (n,) are at most 2^31."""
    key = mix(np.uint64(seed) + mix(sets.astype(np.uint64)))
    high = mix(key + np.uint64(i)) >> np.uint64(32)
    return ((high * bound.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def draw_subset(
    seed: int, sets: NDArray[np.int64], size: NDArray[np.int64], population: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """A uniform random subset of [0, population) for each set, in Floyd's order.

    For ``i`` in 0 .. size-1 with ``j = population - size + i``: draw t in [0, j]; take t, or j where t is taken.

    Args:
        seed: 63-bit seed.
        sets: (n,) numbers of the sets; they key the generator.
        size: (n,) how many to draw for each set, at most its ``population``.
        population: how many to draw from, for all or for each (n,).

    Returns:
        (n, max(size)), row r filled in its first ``size[r]`` places and -1 behind.
    """
    width = int(size.max(initial=0))
    chosen = np.full((len(sets), width), -1, dtype=np.int64)
    for i in range(width):
        last = population - size + i
        value = draw(seed, sets, i, last + 1)
        taken = (chosen[:, :i] == value[:, None]).any(axis=1)
        chosen[:, i] = np.where(i < size, np.where(taken, last, value), -1)
    return chosen


def regrow(
    seed: int, sets: NDArray[np.int64], used: NDArray[np.int64], count: NDArray[np.int64], inputs: int
) -> NDArray[np.int64]:
    """Inputs to regrow: for each set a uniform random subset of those of [0, inputs) that it does not use.

    With m of a set's inputs in [0, inputs), a subset of ranks in [0, inputs - m) is drawn by :func:`draw_subset`; rank
    r stands for the r-th smallest unused input.

    Args:
        seed: 63-bit seed.
        sets: (n,) numbers of the sets.
        used: (n, F) the inputs in use before pruning, of which some may lie beyond ``inputs``.
        count: (n,) how many to regrow, at most ``inputs - m``.
        inputs: how many inputs to draw among, the first ones.

    Returns:
        (n, max(count)), row r filled in its first ``count[r]`` places, what stands behind has no meaning.
    """
    value = draw_subset(seed, sets, count, inputs - (used < inputs).sum(axis=1))
    for column in np.sort(used, axis=1).T:
        value += value >= column[:, None]
    return value
