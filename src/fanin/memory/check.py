"""The check before a run: whether its memory plan fits into what there is, and what to do where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fanin.errors import MemoryPlanError
from fanin.memory.base import base_bytes
from fanin.memory.data_sizes import sampled_sizes
from fanin.memory.other_teams import other_team
from fanin.memory.plan import plan_memory
from fanin.memory.planned_run import PlannedRun
from fanin.memory.room import find_room
from fanin.memory.team import Team
from fanin.memory.units import gibibytes
from fanin.memory.ways_out import ways_out
from fanin.processes.group import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from fanin.data.dataset import Dataset
    from fanin.memory.other_teams import OtherTeam
    from fanin.memory.plan import MemoryPlan
    from fanin.memory.room import Room
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe

UNCERTAIN = 0.15
"""A run is refused only where its plan is over by more than this, which is how far plans are off."""

_SHOWN = 8


class _Shortage(NamedTuple):
    """What there is too little of.

    Attributes:
        needed: what the plan comes to.
        there: what there is.
        where: what that is, in words.
        team: the processes, as many of them on a machine as share it.
        gpu: whether it is on a GPU, or else on the machine.
    """

    needed: int
    there: int
    where: str
    team: Team
    gpu: bool = False


def check_memory(
    recipe: Recipe, dataset: Dataset, device: torch.device | None = None, processes: Processes = ALONE
) -> None:
    """Refuse a run that would not fit into the memory that its processes may have, or that is free on their GPUs.

    Args:
        recipe: the run's.
        dataset: what it trains on.
        device: where this process trains, by default on the CPU.
        processes: that train together. All of them make the check, and where one of them is short, all refuse with its
            message.

    Raises:
        MemoryPlanError: with ways out, as ``fanin plan`` tells them.
        DataError: a file is faulty.
        ConfigError: a setting does not fit the data, or the processes cannot share the classifier.
    """
    base = base_bytes(recipe.encoder)
    room = find_room(device, processes)
    team, gpu = Team(processes.size, room.on_machine), room.gpu is not None
    shortages: list[_Shortage] = []
    if any(there is not None for there in (room.machine, room.own, room.gpu)):
        sizes = sampled_sizes(dataset, recipe)
        plan = plan_memory(recipe, sizes, base, gpu=gpu, team=team)
        shortages = list(_shortages(plan, room, first=processes.first))
    ratios = processes.told_by_all(max((short.needed / short.there for short in shortages), default=0.0))
    if not any(ratios):
        return
    worst, message = ratios.index(max(ratios)), ""
    if processes.rank == worst:
        short = max(shortages, key=lambda short: short.needed / short.there)
        where = f"{short.where}, as process {worst} finds" if processes.size > 1 else short.where
        run = PlannedRun(recipe, sizes, base, short.team, gpu=gpu, beside=gpu and not short.gpu)
        message = str(over_budget(run, short.needed, short.there, where))
    raise MemoryPlanError(processes.told_by_all(message)[worst])


def _shortages(plan: MemoryPlan, room: Room, *, first: bool) -> Iterator[_Shortage]:
    """What a plan is over, by more than it may be off, as the first process of a run or another one finds it."""
    each = Team(plan.team.size)
    own = plan.needed if first else plan.needed_by_others
    found = [
        (plan.machine_needed, room.machine, "free, counting limits of containers", plan.team, False),
        (own, room.own, "allowed by limits of a process (ulimit -d and -v)", each, False),
    ]
    if plan.gpu:
        found.append((plan.limited, room.gpu, "free there", plan.team, True))
    for needed, there, where, team, gpu in found:
        if there is not None and needed * (1 - UNCERTAIN) > there:
            yield _Shortage(needed, max(there, 1), where, team, gpu)


def over_budget(run: PlannedRun, needed: int, budget: int, what: str) -> MemoryPlanError:
    """The error that says by how much a plan is over, and the ways out.

    Args:
        run: whose plan it is.
        needed: what the plan comes to, of one GPU or of all processes of a machine.
        budget: what there is.
        what: the budget in words.
    """
    place = _place(run.team, gpu=run.about_gpu)
    head = f"training needs about {gibibytes(needed)} of {place}; {gibibytes(budget)} are {what}"
    ways = ways_out(run, budget)
    ways = [*ways[: _SHOWN - 1], *ways[_SHOWN - 1 :][-1:]]  # the last may be the only one that is enough
    other = other_team(run, budget)
    shown = [*map(str, ways), *([] if other is None else [str(other)])]
    if not shown:
        return MemoryPlanError(f"{head}; no single setting saves much: take a smaller data set or a larger machine")
    lines = [f"  {number}. {way}" for number, way in enumerate(shown, 1)]
    settings = [way.needed <= budget for way in ways]
    return MemoryPlanError("\n".join([f"{head}. {_advice(settings, other)}", *lines]))


def _place(team: Team, *, gpu: bool) -> str:
    """Whose memory it is."""
    if team.size == 1:
        return "memory on the GPU" if gpu else "memory"
    if gpu:
        return f"memory on the GPU of each of {team.size} processes"
    if team.on_machine == 1:
        return f"memory on the machine of each of {team.size} processes"
    return f"memory for {team.on_machine} of {team.size} processes on a machine"


def _advice(settings: list[bool], other: OtherTeam | None) -> str:
    """What the ways out are good for: whether each change of settings is enough, and other numbers of processes, last.

    >>> _advice([True, True], None), _advice([False, True], None)
    ('Any of these brings it under that:', 'None of these is enough alone; the last, several together, is:')
    """
    if all(settings):
        return "Any of these brings it under that:"
    if settings[-1]:
        alone = "None of these is enough alone; "
        if other is None:
            return f"{alone}the last, several together, is:"
        return f"{alone}the last but one, several together, is, and so is the last, other numbers of processes:"
    if other is not None:
        return "No change of settings is enough; the last, other numbers of processes, is:"
    return "These save most, none enough:"
