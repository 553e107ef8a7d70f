"""The check before a run: whether its memory plan fits into what there is, and what to do where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import MemoryPlanError
from fanin.memory.available import available_bytes, gpu_available_bytes
from fanin.memory.base import base_bytes
from fanin.memory.data_sizes import sampled_sizes
from fanin.memory.plan import plan_memory
from fanin.memory.ways_out import gibibytes, ways_out

if TYPE_CHECKING:
    import torch

    from fanin.data.dataset import Dataset
    from fanin.memory.data_sizes import DataSizes
    from fanin.recipes.recipe import Recipe

UNCERTAIN = 0.15
"""A run is refused only where its plan is over by more than this, which is how far plans are off."""

_SHOWN = 8


def check_memory(recipe: Recipe, dataset: Dataset, device: torch.device | None = None) -> None:
    """Refuse a run that would not fit into the memory that this process may have, or that is free on its GPU.

    Args:
        recipe: the run's.
        dataset: what it trains on.
        device: where, by default on the CPU.

    Raises:
        MemoryPlanError: with ways out, as ``fanin plan`` tells them.
        DataError: a file is faulty.
        ConfigError: a setting does not fit the data.
    """
    available = available_bytes()
    on_gpu = gpu_available_bytes(device)
    if available is None and on_gpu is None:
        return
    sizes, base, gpu = sampled_sizes(dataset, recipe), base_bytes(), on_gpu is not None
    plan = plan_memory(recipe, sizes, base, gpu=gpu)
    if available is not None and plan.needed * (1 - UNCERTAIN) > available:
        what = "free, counting limits of containers"
        raise over_budget(recipe, sizes, base, plan.needed, available, what, gpu=gpu, beside=True)
    if on_gpu is not None and plan.limited * (1 - UNCERTAIN) > on_gpu:
        raise over_budget(recipe, sizes, base, plan.limited, on_gpu, "free there", gpu=True)


def over_budget(
    recipe: Recipe,
    sizes: DataSizes,
    base: int,
    needed: int,
    budget: int,
    what: str,
    *,
    gpu: bool = False,
    beside: bool = False,
) -> MemoryPlanError:
    """The error that says by how much a plan is over, and the ways out.

    Args:
        recipe: the recipe.
        sizes: of the data.
        base: as in :func:`fanin.memory.plan.plan_memory`.
        needed: what the plan comes to.
        budget: what there is.
        what: the budget in words.
        gpu: whether the run computes on a GPU, whose memory it is about.
        beside: whether it is about the machine's all the same.
    """
    place = "memory on the GPU" if gpu and not beside else "memory"
    head = f"training needs about {gibibytes(needed)} of {place}; {gibibytes(budget)} are {what}"
    ways = ways_out(recipe, sizes, base, budget, gpu=gpu, beside=beside)
    ways = [*ways[: _SHOWN - 1], *ways[_SHOWN - 1 :][-1:]]  # the last may be the only one that is enough
    if not ways:
        return MemoryPlanError(f"{head}; no single setting saves much: take a smaller data set or a larger machine")
    lines = [f"  {number}. {way}" for number, way in enumerate(ways, 1)]
    if ways[0].needed <= budget:
        advice = "Any of these brings it under that:"
    elif ways[-1].needed <= budget:
        advice = "None of these is enough alone; the last, several together, is:"
    else:
        advice = "These save most, none enough:"
    return MemoryPlanError("\n".join([f"{head}. {advice}", *lines]))
