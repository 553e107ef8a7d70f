"""Ways out of a plan that is over the budget: single settings that make it fit, with what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanin.memory.units import gibibytes
from fanin.recipes.classifier_recipe import (
    BottleneckSection,
    FixedFanInSection,
    HeadTailSection,
    MaskedSection,
    StoredWeightsSection,
)
from fanin.recipes.recipe import BagSection, TransformerSection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fanin.memory.plan import MemoryPlan
    from fanin.memory.planned_run import PlannedRun
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.recipes.recipe import Recipe

_HALVINGS = 6
_WORTH = 0.02  # share of the plan that a change has to save


@dataclass(frozen=True)
class WayOut:
    """A change of settings, and the plan with it.

    Attributes:
        settings: for ``--set``, each "section.key=value".
        instead: what they are now, in the same order.
        needed: bytes that must be there in training with them, on the GPU if the run computes there, else for all
            processes of a machine.
    """

    settings: tuple[str, ...]
    instead: tuple[str, ...]
    needed: int

    def __str__(self) -> str:
        """The change in words.

        >>> str(WayOut(("classifier.fan_in=16",), ("32",), 3 << 30))
        'classifier.fan_in=16 instead of 32: 3.0 GiB'
        """
        changes = (f"{new} instead of {old}" for new, old in zip(self.settings, self.instead, strict=True))
        return f"{', '.join(changes)}: {gibibytes(self.needed)}"


def ways_out(run: PlannedRun, budget: int) -> list[WayOut]:
    """Changes that make a plan smaller: first those that bring it under the budget, the least of each setting.

    Where none does that alone, the largest savings are put together.

    Args:
        run: whose plan is over the budget.
        budget: bytes, of a GPU or for all processes of a machine.
    """
    plans, now = _Plans(run, budget), run.plan()
    assert now is not None, "the recipe has a plan"
    ways = [way for options in _changes(run.recipe) if (way := plans.least(options)) is not None]
    worth = sorted((way for way in ways if way.needed <= (1 - _WORTH) * now.limited), key=lambda way: way.needed)
    fitting = [way for way in worth if way.needed <= budget]
    if fitting:
        return fitting
    together = plans.together(ways)
    return worth if together is None else [*worth, together]


class _Plans:
    """Plans of a run with changes of its settings, under a budget."""

    def __init__(self, run: PlannedRun, budget: int) -> None:
        self._run, self._budget = run, budget

    def least(self, options: Iterable[str]) -> WayOut | None:
        """The first of some values of a setting that is under the budget, else the one that saves most."""
        best = None
        for setting in options:
            plan = self._run.plan([setting])
            if plan is None:
                continue
            way = self._way([setting], plan)
            if way.needed <= self._budget:
                return way
            if best is None or self._over(plan) < best[0]:
                best = self._over(plan), way
        return None if best is None else best[1]

    def together(self, ways: Sequence[WayOut]) -> WayOut | None:
        """Ways one upon the other, each time the one that brings most, until they fit; None where they never do."""
        settings: list[str] = []
        left = {way.settings[0] for way in ways}
        over = float("inf")
        while left:
            tried = [(setting, self._run.plan([*settings, setting])) for setting in sorted(left)]
            plans = [(self._over(plan), setting, plan) for setting, plan in tried if plan is not None]
            if not plans:
                return None
            now, setting, plan = min(plans, key=lambda found: found[:2])
            if now >= over:
                return None
            settings.append(setting)
            left.discard(setting)
            over = now
            if plan.limited <= self._budget:
                return self._way(settings, plan)
        return None

    def _over(self, plan: MemoryPlan) -> int:
        """By how much all stages are over the budget: to bring one of two down is progress."""
        each = (stage.limited(gpu=plan.gpu, processes=plan.team.on_machine) for stage in plan.training)
        return sum(max(limited - self._budget, 0) for limited in each)

    def _way(self, settings: Sequence[str], plan: MemoryPlan) -> WayOut:
        instead = tuple(_shown(self._run.recipe, _name(setting)) for setting in settings)
        return WayOut(tuple(settings), instead, plan.limited)


def _name(setting: str) -> str:
    """The name in "name=value"."""
    return setting.partition("=")[0]


def _changes(recipe: Recipe) -> Iterator[Iterable[str]]:
    """For each setting that memory depends on, values that make it less, the smallest change first."""
    yield from _classifier_changes(recipe.classifier)
    auxiliary = recipe.auxiliary
    if auxiliary is not None and auxiliary.clusters is None:
        yield _doubled("auxiliary.labels_per_cluster", auxiliary.labels_per_cluster)
    elif auxiliary is not None and auxiliary.clusters is not None:
        yield _halved("auxiliary.clusters", auxiliary.clusters, 16)
    if recipe.intermediate is not None:
        yield _halved("intermediate.width", recipe.intermediate.width, 64)
    yield from _encoder_changes(recipe)
    yield _halved("training.batch_size", recipe.training.batch_size, 16)


def _classifier_changes(section: AnyClassifierSection) -> Iterator[Iterable[str]]:
    match section:
        case FixedFanInSection():
            yield _halved("classifier.fan_in", section.fan_in, 8)
            yield from _sharing_changes(section)
        case MaskedSection():
            yield ["classifier={kind: sparse}"]
        case BottleneckSection():
            yield _halved("classifier.width", section.width, 8)
        case _:
            yield ["classifier={kind: sparse, fan_in: 32}"]
    if section.update.kind == "adamw":
        yield ["classifier.update={kind: sgd}"]
    if isinstance(section, StoredWeightsSection) and section.weights == "fp32":
        yield ["classifier.weights=bf16", "classifier.weights=fp8"]


def _sharing_changes(section: FixedFanInSection) -> Iterator[Iterable[str]]:
    """What labels share, how they start, and what rewiring remembers."""
    if section.group_size == 1:
        yield ["classifier.group_size=32"]
    if section.cluster_size:
        yield _doubled("classifier.cluster_size", section.cluster_size)
    if section.related_labels and max(section.group_size, section.cluster_size) > 1:
        yield ["classifier.related_labels=false"]
    if section.start != "random":
        yield ["classifier.start=random"]
    if isinstance(section, HeadTailSection):
        yield [f"classifier.head_share={section.head_share / 2**i:g}" for i in (1, 2, 3)]
    if section.rewiring is not None and section.rewiring.grow != "random":
        yield ["classifier.rewiring.grow=random"]


def _encoder_changes(recipe: Recipe) -> Iterator[Iterable[str]]:
    section = recipe.encoder
    if section.out_features is not None:
        yield _halved("encoder.out_features", section.out_features, 64)
    match section:
        case BagSection():
            yield _halved("encoder.embedding_dim", section.embedding_dim, 32)
            yield _halved("tokenizer.vocabulary_size", recipe.tokenizer.vocabulary_size, 1000)
            yield _halved("tokenizer.frequent_pairs", recipe.tokenizer.frequent_pairs, 1000)
        case TransformerSection(frozen=False):
            yield ["encoder.gradient_checkpointing=true"]
            if section.weights == "fp32":
                yield ["encoder.weights=bf16-kahan"]
            yield _halved("encoder.max_length", section.max_length, 16)
            yield ["encoder.frozen=true"]


def _doubled(setting: str, value: int) -> list[str]:
    return [f"{setting}={value * 2**i}" for i in (1, 2, 3)]


def _halved(setting: str, value: int, least: int) -> Iterator[str]:
    for _ in range(_HALVINGS):
        value //= 2
        if value < least:
            return
        yield f"{setting}={value}"


def _shown(recipe: Recipe, path: str) -> str:
    """A setting's value as it is written."""
    value: Any = recipe
    for key in path.split("."):
        value = getattr(value, key)
    if hasattr(value, "kind"):
        return str(value.kind)
    return str(value).lower() if isinstance(value, bool) else str(value)
