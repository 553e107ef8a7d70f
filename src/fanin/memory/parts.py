"""Bytes in memory by name, and the stages of a run in which they are there at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Part(NamedTuple):
    """Something in memory.

    Attributes:
        name: what it is.
        bytes: how large.
        mapped: whether it is a file's content, which the operating system takes back where memory is short.
        gpu: whether it lies on the GPU.
        once: whether only one of the processes that train together on a machine has it.
    """

    name: str
    bytes: int
    mapped: bool = False
    gpu: bool = False
    once: bool = False


@dataclass(frozen=True)
class Stage:
    """A time in a run.

    Attributes:
        name: what is done.
        parts: everything in memory then; where several processes train, of one that has also what is there once.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """All that is not on the GPU, as the operating system counts it."""
        return sum(part.bytes for part in self.parts if not part.gpu)

    @property
    def needed(self) -> int:
        """What must be there besides the GPU's: all but content of files."""
        return sum(part.bytes for part in self.parts if not part.gpu and not part.mapped)

    @property
    def gpu_bytes(self) -> int:
        """All of it that is on the GPU."""
        return sum(part.bytes for part in self.parts if part.gpu)

    def needed_by(self, processes: int) -> int:
        """What must be there for so many processes of a machine, what they have once counted once."""
        once = sum(part.bytes for part in self.parts if part.once and not part.gpu and not part.mapped)
        return processes * (self.needed - once) + once

    def limited(self, *, gpu: bool, processes: int = 1) -> int:
        """What a budget is about: a GPU's memory if a run computes there, else what must be in a machine's.

        Args:
            gpu: whether it computes on a GPU.
            processes: of the run, on the machine.
        """
        return self.gpu_bytes if gpu else self.needed_by(processes)


def part(name: str, count: float, *, mapped: bool = False, once: bool = False) -> list[Part]:
    """A part in a list, which is empty where it has no bytes.

    >>> part("nothing", 0), part("names", 3.2)
    ([], [Part(name='names', bytes=3, mapped=False, gpu=False, once=False)])
    """
    return [Part(name, int(count), mapped, once=once)] if count >= 1 else []


def moved(parts: Iterable[Part], *, gpu: bool) -> list[Part]:
    """The parts on the GPU, if that is where a run computes."""
    return [part._replace(gpu=gpu) for part in parts]
