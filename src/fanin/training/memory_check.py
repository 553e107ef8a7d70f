"""The check before a run: whether its memory plan fits into what there is, and what to do where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import MemoryPlanError
from fanin.training.data_sizes import sampled_sizes
from fanin.training.memory_available import available_bytes
from fanin.training.memory_base import base_bytes
from fanin.training.memory_plan import plan_memory
from fanin.training.memory_ways_out import gibibytes, ways_out

if TYPE_CHECKING:
    from fanin.data.dataset import Dataset
    from fanin.training.data_sizes import DataSizes
    from fanin.training.recipe import Recipe

UNCERTAIN = 0.15
"""A run is refused only where its plan is over by more than this, which is how far plans are off."""

_SHOWN = 8


def check_memory(recipe: Recipe, dataset: Dataset) -> None:
    """Refuse a run that would not fit into the memory that this process may have.

    Raises:
        MemoryPlanError: with ways out, as ``fanin plan`` tells them.
        DataError: a file is faulty.
        ConfigError: a setting does not fit the data.
    """
    available = available_bytes()
    if available is None:
        return
    sizes, base = sampled_sizes(dataset, recipe), base_bytes()
    needed = plan_memory(recipe, sizes, base).needed
    if needed * (1 - UNCERTAIN) > available:
        raise over_budget(recipe, sizes, base, needed, available, "free, counting limits of containers")


def over_budget(recipe: Recipe, sizes: DataSizes, base: int, needed: int, budget: int, what: str) -> MemoryPlanError:
    """The error that says by how much a plan is over, and the ways out.

    Args:
        recipe: the recipe.
        sizes: of the data.
        base: as in :func:`fanin.training.memory_plan.plan_memory`.
        needed: what the plan comes to.
        budget: what there is.
        what: the budget in words.
    """
    head = f"training needs about {gibibytes(needed)} of memory; {gibibytes(budget)} are {what}"
    ways = ways_out(recipe, sizes, base, budget)[:_SHOWN]
    if not ways:
        return MemoryPlanError(f"{head}; no single setting saves much: take a smaller data set or a larger machine")
    lines = [f"  {number}. {way}" for number, way in enumerate(ways, 1)]
    advice = "Any of these brings it under that:" if ways[-1].needed <= budget else "These save most, none enough:"
    return MemoryPlanError("\n".join([f"{head}. {advice}", *lines]))
