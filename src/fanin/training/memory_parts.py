"""Bytes in memory by name, and the stages of a run in which they are there at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """Something in memory.

    Attributes:
        name: what it is.
        bytes: how large.
        mapped: whether it is a file's content, which the operating system takes back where memory is short.
    """

    name: str
    bytes: int
    mapped: bool = False


@dataclass(frozen=True)
class Stage:
    """A time in a run.

    Attributes:
        name: what is done.
        parts: everything in memory then.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """All of it, as the operating system counts it."""
        return sum(part.bytes for part in self.parts)

    @property
    def needed(self) -> int:
        """What must be there: all but content of files."""
        return sum(part.bytes for part in self.parts if not part.mapped)


def part(name: str, count: float, *, mapped: bool = False) -> list[Part]:
    """A part in a list, which is empty where it has no bytes.

    >>> part("nothing", 0), part("names", 3.2)
    ([], [Part(name='names', bytes=3, mapped=False)])
    """
    return [Part(name, int(count), mapped)] if count >= 1 else []
