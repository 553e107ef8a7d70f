"""A run whose memory is planned: its recipe, data and processes, and what its budget is about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fanin.errors import ConfigError
from fanin.memory.plan import plan_memory
from fanin.memory.team import SINGLE, Team
from fanin.recipes.recipe_files import changed_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.plan import MemoryPlan
    from fanin.recipes.recipe import Recipe


@dataclass(frozen=True)
class PlannedRun:
    """What a plan depends on, and whose memory is short.

    Attributes:
        recipe: the recipe.
        sizes: of the data.
        base: as in :func:`fanin.memory.plan.plan_memory`.
        team: the processes that train together.
        gpu: whether it computes on GPUs, whose memory the budget is then.
        beside: whether the budget is that of a machine beside its GPUs all the same.
    """

    recipe: Recipe
    sizes: DataSizes
    base: int
    team: Team = SINGLE
    gpu: bool = False
    beside: bool = False

    @property
    def about_gpu(self) -> bool:
        """Whether the budget is that of a GPU, else of a machine."""
        return self.gpu and not self.beside

    def plan(self, settings: Sequence[str] = (), team: Team | None = None) -> MemoryPlan | None:
        """The plan, whose ``limited`` is what the budget is about.

        Args:
            settings: changes, each "section.key=value".
            team: other processes.

        Returns:
            None where the settings do not fit the others or the data, or so many processes cannot share the classifier.
        """
        try:
            recipe = changed_recipe(self.recipe, settings)
            plan = plan_memory(recipe, self.sizes, self.base, gpu=self.gpu, team=team or self.team)
        except ConfigError:
            return None
        return replace(plan, gpu=self.about_gpu)
