"""Which labels of a larger layer a layer holds, where several processes share it."""

from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """A range of a layer's labels, by place. What is drawn at random for them is what the whole layer would draw.

    Attributes:
        first: the first one; groups and clusters begin with it.
        of: labels of the whole layer.
    """

    first: int
    of: int
