"""The way out of a budget that changes no setting: the same run in more processes, or in fewer a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.memory.team import Team
from fanin.memory.units import gibibytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fanin.memory.planned_run import PlannedRun

_MOST_DOUBLINGS = 10


@dataclass(frozen=True)
class OtherTeam:
    """Other numbers of processes, and the plan with them.

    Attributes:
        team: the processes.
        instead: those of now.
        needed: bytes that must be there in training, on a GPU if it is about that, else on a machine.
        gpu: whether it is about the GPU of each.
    """

    team: Team
    instead: Team
    needed: int
    gpu: bool

    def __str__(self) -> str:
        """The numbers in words.

        >>> str(OtherTeam(Team(4, 1), Team(1, 1), 3 << 30, gpu=False))
        '4 processes, one on each of 4 machines, started by torchrun: 3.0 GiB a machine'
        >>> str(OtherTeam(Team(8, 4), Team(4, 4), 3 << 30, gpu=True))
        '8 processes, each with a GPU of its own, instead of 4: 3.0 GiB a GPU'
        """
        if self.gpu:
            names, before = f"{self.team.size} processes, each with a GPU of its own", f"{self.instead.size}"
        else:
            names, before = str(self.team), str(self.instead)
        how = "started by torchrun" if self.instead.size == 1 else f"instead of {before}"
        return f"{names}, {how}: {gibibytes(self.needed)} a {'GPU' if self.gpu else 'machine'}"


def other_team(run: PlannedRun, budget: int) -> OtherTeam | None:
    """The fewest machines, or GPUs, on which a run fits as it is, and as many processes on each as fit there.

    Args:
        run: whose plan is over the budget.
        budget: bytes of a machine, or of a GPU.

    Returns:
        None where there is no such number.
    """
    gpu = run.about_gpu

    def needed(other: Team) -> int | None:
        """What must be there; None where so many processes cannot share the classifier."""
        plan = run.plan(team=other)
        return None if plan is None else plan.limited

    found = []
    for first in _least_teams(run.team, gpu=gpu):
        other = _least(first, lambda other: (most := needed(other)) is None or most <= budget, gpu=gpu)
        most = None if other is None else needed(other)
        if other is not None and most is not None:
            found.append(OtherTeam(other, run.team, most, gpu))
    return min(found, key=lambda other: (other.team.machines, -other.team.size), default=None)


def _least_teams(team: Team, *, gpu: bool) -> Iterator[Team]:
    """Where to begin: with one GPU more; or with as many processes a machine on one more, and fewer on as many."""
    if gpu:
        yield Team(team.size + 1, team.on_machine)
        return
    each, machines = team.on_machine, team.machines + 1
    while each:
        yield Team(each * machines, each)
        each, machines = each // 2, team.machines


def _least(first: Team, enough: Callable[[Team], bool], *, gpu: bool) -> Team | None:
    """The least team from the first on that is enough, where larger ones are too; None where none of them is.

    It grows by whole machines, or by single GPUs.
    """
    step = 1 if gpu else first.on_machine
    below, count = first.size // step - 1, first.size // step

    def team(count: int) -> Team:
        return Team(count * step, first.on_machine)

    for _ in range(_MOST_DOUBLINGS):
        if enough(team(count)):
            break
        below, count = count, 2 * count
    else:
        return None
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if enough(team(middle)) else (middle, count)
    return team(count)
