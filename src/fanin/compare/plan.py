"""A comparison's folder: its plan, which says what belongs into it, and one run folder a recipe and seed.

A folder belongs to one data set, one budget, one device and one choice about the test split; recipes and seeds can be
added.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fanin.compare.choices import RecipeChoice, parse_budget, parse_recipes
from fanin.errors import CheckpointError, ConfigError
from fanin.folders import replace_file
from fanin.json_files import read_json
from fanin.runs.run_folder import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fanin.compare.choices import Budget

PLAN, _LOCK = "compare.json", "compare.lock"
_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What a comparison consists of.

    Attributes:
        data: the data set's name, for people.
        data_key: of its content.
        budget: of every run.
        score_test: whether the runs score the test split.
        device: what they train on, as ``--device`` names it.
        machine: where they run, for people.
        recipes: in the order of the tables.
        seeds: of every recipe.
        steps: by a recipe's name, the steps that a budget of seconds came to.
    """

    data: str
    data_key: str
    budget: Budget
    score_test: bool
    device: str
    machine: str
    recipes: tuple[RecipeChoice, ...]
    seeds: tuple[int, ...]
    steps: Mapping[str, int] = field(default_factory=dict)

    def settings(self, choice: RecipeChoice, seed: int) -> list[str]:
        """All changes of a recipe's settings for one of its runs: its own, the seed, the budget."""
        steps = self.budget.amount if self.budget.unit == "steps" else self.steps.get(choice.name)
        return [*choice.settings, f"training.seed={seed}", *([f"training.steps={steps}"] if steps else [])]


@dataclass(frozen=True)
class PlannedRun:
    """One recipe with one seed.

    Attributes:
        choice: the recipe.
        seed: its seed.
        folder: its run folder.
    """

    choice: RecipeChoice
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its metrics are there; they are written last, and whole."""
        return (self.folder / METRICS).is_file()

    def __str__(self) -> str:
        return f"{self.choice.name}, seed {self.seed}"


def planned_runs(folder: Path, plan: Plan) -> list[PlannedRun]:
    """Every run, all recipes with the first seed first: so that an early look shows every recipe."""
    return [
        PlannedRun(choice, seed, folder / choice.folder / f"seed-{seed}")
        for seed in plan.seeds
        for choice in plan.recipes
    ]


def read_plan(folder: Path) -> Plan:
    """The plan of a comparison's folder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / PLAN
    values = read_json(path, unreadable="give the folder of an earlier fanin compare", damaged="copy the folder again")
    try:
        return _from_values(values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged ({error!r}); copy the folder again") from error


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a plan whole.

    Raises:
        ConfigError: it cannot be written.
    """
    path = folder / PLAN
    values = {
        "format": _FORMAT,
        "data": plan.data,
        "data_key": plan.data_key,
        "budget": str(plan.budget),
        "score_test": plan.score_test,
        "device": plan.device,
        "machine": plan.machine,
        "recipes": {choice.name: choice.spec for choice in plan.recipes},
        "seeds": list(plan.seeds),
        "steps": dict(plan.steps),
    }
    try:
        replace_file(path, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from error


def joined(folder: Path, old: Plan, new: Plan) -> Plan:
    """An earlier plan with the recipes and seeds of a newer one added.

    Raises:
        ConfigError: the newer one has another data set, budget, device or choice about the test split, or another
            recipe under a name that is there.
    """
    for what, before, now in (
        ("data set", (old.data, old.data_key), (new.data, new.data_key)),
        ("budget", str(old.budget), str(new.budget)),
        ("choice about the test split (--no-test)", old.score_test, new.score_test),
        ("device", old.device, new.device),
    ):
        if before != now:
            raise ConfigError(
                f"{folder}: holds a comparison with another {what}, whose figures do not belong beside these; "
                "name another folder"
            )
    specs = {choice.name: choice.spec for choice in old.recipes}
    for choice in new.recipes:
        if specs.get(choice.name, choice.spec) != choice.spec:
            raise ConfigError(
                f"{folder}: {choice.name!r} is {specs[choice.name]!r} there and {choice.spec!r} now; give the new one "
                "another name, as in --recipe NAME=RECIPE, or name another folder"
            )
    added = tuple(choice for choice in new.recipes if choice.name not in specs)
    parse_recipes([choice.spec for choice in (*old.recipes, *added)])  # folders must differ
    machine = old.machine if new.machine in old.machine else f"{old.machine}; {new.machine}"
    seeds = tuple(sorted({*old.seeds, *new.seeds}))
    return replace(old, recipes=(*old.recipes, *added), seeds=seeds, machine=machine)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Make or open a comparison's folder, for one process at a time.

    Yields:
        A descriptor that holds the folder for whoever has it open: child processes that inherit it, too.

    Raises:
        ConfigError: the folder holds something else, another comparison is at work in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = not (folder / PLAN).exists() and any(path.name != _LOCK for path in folder.iterdir())
        if foreign:
            raise ConfigError(f"{folder}: holds something that is not a comparison; name a new folder")
        file = (folder / _LOCK).open("w", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{folder}: the folder cannot be written ({error.strerror or error})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{folder}: another fanin compare, or a training that it has started, is at work there; wait for it"
            ) from error
        yield file.fileno()


def _from_values(values: Any) -> Plan:
    if values["format"] != _FORMAT:
        raise ValueError(f"format {values['format']!r}, not {_FORMAT}")
    return Plan(
        data=str(values["data"]),
        data_key=str(values["data_key"]),
        budget=parse_budget(values["budget"]),
        score_test=bool(values["score_test"]),
        device=str(values.get("device", "cpu")),
        machine=str(values["machine"]),
        recipes=tuple(parse_recipes([str(spec) for spec in values["recipes"].values()])),
        seeds=tuple(int(seed) for seed in values["seeds"]),
        steps={str(name): int(steps) for name, steps in values["steps"].items()},
    )
