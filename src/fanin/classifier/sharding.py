"""Where the labels of a classifier are cut when several processes share it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class BandSize(NamedTuple):
    """A layer of labels that is to be cut.

    Attributes:
        labels: how many.
        unit: labels that stay together: cuts are multiples of it.
    """

    labels: int
    unit: int


def unit_of(group_size: int, cluster_size: int) -> int:
    """The labels that must stay together so that no group and no cluster is cut.

    >>> unit_of(group_size=4, cluster_size=6), unit_of(group_size=1, cluster_size=0)
    (12, 1)
    """
    return math.lcm(group_size, cluster_size or 1)


def shard_ranges(bands: Sequence[BandSize], processes: int, settings: str = "") -> list[list[tuple[int, int]]]:
    """The labels of every band that each process serves.

    Every process gets as many units of every band, or one more; those that have one more of a band come last when the
    next band is not even either. So the labels of two processes differ by at most one unit of each kind.

    Args:
        bands: the layers.
        processes: N.
        settings: what could be done about too few units, for the message.

    Returns:
        For each band and process (start, stop), consecutive, from 0 to the band's labels, none empty.

    Raises:
        ConfigError: a band has fewer units than there are processes.

    >>> shard_ranges([BandSize(10, 4), BandSize(5, 1)], 2)
    [[(0, 8), (8, 10)], [(0, 2), (2, 5)]]
    """
    given, ranges = 0, []
    for labels, unit in bands:
        units = -(-labels // unit)
        if units < processes:
            raise ConfigError(
                f"{processes} processes cannot share {labels} outputs that are cut in {units} runs of {unit}: each "
                f"needs one at least. Start fewer processes{settings}"
            )
        each, more = divmod(units, processes)
        counts = [each + ((rank - given) % processes < more) for rank in range(processes)]
        given += more
        cuts = [min(sum(counts[:rank]) * unit, labels) for rank in range(processes + 1)]
        ranges.append(list(pairwise(cuts)))
    return ranges
