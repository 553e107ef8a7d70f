"""What the finished runs of a comparison say, together, and the files that say it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fanin.compare.plan import planned_runs
from fanin.errors import CheckpointError, ConfigError
from fanin.report.finished_runs import common_split, read_metrics
from fanin.report.frontier import draw_frontier
from fanin.report.summary import run_figures, summarise
from fanin.report.tables import comma_separated, markdown
from fanin.runs.run_folder import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fanin.compare.plan import Plan, PlannedRun
    from fanin.report.summary import Summary

STEM = "compare"


@dataclass(frozen=True)
class Outcome:
    """The finished runs of a comparison.

    Attributes:
        plan: what was to be run.
        split: whose scores are meant, "test" or "validation".
        figures: of every finished run.
        summaries: of every recipe with a finished run, in the plan's order.
    """

    plan: Plan
    split: str
    figures: Mapping[PlannedRun, Mapping[str, float]]
    summaries: Sequence[Summary]


def collect(folder: Path, plan: Plan) -> Outcome:
    """Read all finished runs of a comparison's folder.

    Raises:
        CheckpointError: no run is finished, or one of them is damaged.
    """
    metrics = {run: read_metrics(run.folder) for run in planned_runs(folder, plan) if run.finished}
    if not metrics:
        raise CheckpointError(f"{folder}: no run is finished; start the comparison again without --table")
    split = common_split(metrics.values())
    figures = {run: run_figures(run.folder, found, split) for run, found in metrics.items()}
    of_recipe = {
        choice.name: [found for run, found in figures.items() if run.choice == choice] for choice in plan.recipes
    }
    summaries = [summarise(name, found) for name, found in of_recipe.items() if found]
    return Outcome(plan, split, figures, summaries)


def write_files(folder: Path, outcome: Outcome, say: Callable[[str], None]) -> list[Path]:
    """Write compare.md, compare.csv and, where matplotlib is installed, compare.png and compare.svg.

    Args:
        folder: where they are written.
        outcome: what they say.
        say: told why there is no picture.

    Returns:
        The files.

    Raises:
        ConfigError: they cannot be written.
    """
    page, sheet = folder / f"{STEM}.md", folder / f"{STEM}.csv"
    try:
        sheet.write_text(comma_separated(outcome.summaries), encoding="utf-8")
        try:
            pictures = draw_frontier(outcome.summaries, f"{_split_in_words(outcome)} of {outcome.plan.data}", folder)
        except ConfigError as error:
            say(f"note: no picture: {error}")
            pictures = []
        facts = [*_facts(outcome), *(f"![accuracy against size]({picture.name})" for picture in pictures[:1])]
        page.write_text(markdown(f"Comparison on {outcome.plan.data}", facts, outcome.summaries), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: the tables cannot be written ({error.strerror or error})") from error
    return [page, sheet, *pictures]


def _facts(outcome: Outcome) -> list[str]:
    plan = outcome.plan
    seeds = ", ".join(map(str, plan.seeds))
    newest = max((run.folder / METRICS).stat().st_mtime for run in outcome.figures)
    date = datetime.fromtimestamp(newest, UTC).date()
    command = ["fanin", "compare", plan.data]
    command += [part for choice in plan.recipes for part in ("--recipe", choice.spec)]
    command += ["--seeds", ",".join(map(str, plan.seeds))]
    command += [] if plan.budget.unit == "own" else ["--budget", str(plan.budget)]
    command += [] if plan.score_test else ["--no-test"]
    scores = f"Scores of the {_split_in_words(outcome)}; mean ± sample standard deviation over seeds ({seeds})."
    facts = [
        f"{scores} Budget: {_budget_in_words(plan)}.",
        f"    {shlex.join(command)} --out DIR",
        f"{plan.machine}; {date}.",
    ]
    missing = len(plan.recipes) * len(plan.seeds) - len(outcome.figures)
    return [*facts, f"Not finished yet: {missing} runs."] if missing else facts


def _budget_in_words(plan: Plan) -> str:
    if plan.budget.unit == "own":
        return "each recipe's own"
    if plan.budget.unit == "steps":
        return f"{plan.budget.amount:,} steps"
    steps = ", ".join(f"{name} {steps:,}" for name, steps in plan.steps.items())
    return f"about {plan.budget.amount:,} seconds of training, which a short run before put at so many steps: {steps}"


def _split_in_words(outcome: Outcome) -> str:
    return "test split" if outcome.split == "test" else "validation rows"
