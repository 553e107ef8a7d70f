"""What several processes of a run do before they train: one of them first, where all at once would be of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.processes.launch import first_on_machine
from fanin.recipes.recipe_files import recipe_from_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.training.preparation import PreparedData


def prepare_together(processes: Processes, make: Callable[[], PreparedData]) -> PreparedData:
    """What all processes read: made by the first of every machine, which fills the cache that the others then find.

    Args:
        processes: of the run.
        make: makes it.
    """
    if processes.size == 1:
        return make()
    found = make() if first_on_machine() else None
    processes.wait()
    return make() if found is None else found


def recipe_from_first(processes: Processes, load: Callable[[], Recipe]) -> Recipe:
    """The recipe that the first process loads, which alone needs the run folder.

    Args:
        processes: of the run.
        load: loads it.
    """
    if processes.size == 1:
        return load()
    return recipe_from_values(processes.told_by_first(lambda: load().model_dump(mode="json")), "the recipe of the run")
