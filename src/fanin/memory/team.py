"""How many processes train together, and how many of them share a machine's memory."""

from __future__ import annotations

from typing import NamedTuple


class Team(NamedTuple):
    """Processes that train one model together.

    Attributes:
        size: N, how many in all.
        on_machine: how many of them on a machine.

    >>> Team(8, 3).machines, str(Team(8, 3)), str(Team(4, 1)), str(Team(2, 2))
    (3, '8 processes, 3 on each of 3 machines', '4 processes, one on each of 4 machines', '2 processes on one machine')
    """

    size: int = 1
    on_machine: int = 1

    @property
    def machines(self) -> int:
        """How many machines they fill; the last one may have fewer."""
        return -(-self.size // self.on_machine)

    def __str__(self) -> str:
        """The numbers in words."""
        processes = f"{self.size} processes" if self.size > 1 else "one process"
        if self.machines == 1:
            return f"{processes} on one machine"
        return f"{processes}, {self.on_machine if self.on_machine > 1 else 'one'} on each of {self.machines} machines"


SINGLE = Team()
"""One process that trains by itself."""
