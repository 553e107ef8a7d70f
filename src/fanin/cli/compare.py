"""``fanin compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanin.cli.options import Device, Json, Quiet
from fanin.cli.output import note, write_json, write_line, write_table
from fanin.errors import ConfigError, FaninError

if TYPE_CHECKING:
    from fanin.compare.outcome import Outcome
    from fanin.compare.plan import Plan
    from fanin.data.dataset import Dataset


def compare(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The comparison's folder; of an earlier one to go on with it.")
    ],
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="The data set; left out with --table.", show_default=False)
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="[NAME=]RECIPE[:KEY=VALUE,...]",
            help="A recipe, with settings changed: small=default:classifier.fan_in=16. Repeatable.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,...", help="The seeds of every recipe.")] = "0",
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="steps=N|seconds=N",
            help="How long every run trains; schedules fit it. Seconds are turned into steps by a short run of each "
            "recipe. By default each recipe's own epochs.",
        ),
    ] = None,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Leave the test split unscored, and compare by validation scores.")
    ] = False,
    device: Device = "cpu",
    table: Annotated[
        bool, typer.Option("--table", help="Train nothing; write the tables again from the runs that are finished.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train several recipes with several seeds, and compare them in one table.

    Each run has a folder in DIR and a process of its own, so that its peak memory is its own. The same command again
    keeps what is finished and goes on with the rest, from its last checkpoint; recipes and seeds may be added. Means
    and deviations over the seeds are written to DIR as compare.md, compare.csv and a picture of accuracy against
    classifier bytes.
    """
    from fanin.compare.plan import read_plan
    from fanin.data.formats import open_dataset
    from fanin.training.device import resolve_device

    if table:
        if data is not None or recipe:
            raise ConfigError("--table takes --out DIR alone: data and recipes are those of the runs that are there")
        _report(out, read_plan(out), json=json)
        return
    if data is None or not recipe:
        raise ConfigError("fanin compare needs DATA and at least one --recipe; or --table for the runs that are there")
    dataset = open_dataset(data)
    resolve_device(device)
    plan = _plan(dataset, recipe, seeds, budget, device, score_test=not no_test)
    failed = _run(plan, dataset, out, quiet=quiet)
    try:
        _report(out, read_plan(out), json=json)
    finally:
        if failed:
            note(f"failed: {'; '.join(failed)}")
    if failed:
        raise FaninError(f"{out}: {len(failed)} failed, see above; the same command again tries them again")


def _run(plan: Plan, dataset: Dataset, out: Path, *, quiet: bool) -> list[str]:
    """Make the runs; those that failed are returned in words."""
    from fanin.cli.progress import make_display
    from fanin.compare.plan import PLAN, joined, opened, planned_runs, read_plan, write_plan
    from fanin.compare.running import Runner

    with opened(out) as lock:
        if (out / PLAN).exists():
            plan = joined(out, read_plan(out), plan)
        write_plan(out, plan)
        try:
            return Runner(out, dataset, lock, note, quiet=quiet).run(plan, make_display(quiet=quiet))
        except KeyboardInterrupt:
            runs = planned_runs(out, plan)
            note(
                f"interrupted; {sum(run.finished for run in runs)} of {len(runs)} runs are finished and kept, the same "
                "command goes on from there"
            )
            raise typer.Exit(130) from None


def _plan(dataset: Dataset, specs: list[str], seeds: str, budget: str | None, device: str, *, score_test: bool) -> Plan:
    from fanin.compare.choices import parse_budget, parse_recipes, parse_seeds
    from fanin.compare.machine import describe_machine
    from fanin.compare.plan import Plan
    from fanin.data.content import content_key
    from fanin.recipes.recipe_files import load_recipe

    plan = Plan(
        data=dataset.path.resolve().name,
        data_key=content_key(dataset, further=dataset.feature_files),
        budget=parse_budget(budget),
        score_test=score_test,
        device=device,
        machine=describe_machine(),
        recipes=tuple(parse_recipes(specs)),
        seeds=parse_seeds(seeds),
    )
    for choice in plan.recipes:  # a mistake in the last recipe must not wait for the others' hours of training
        try:
            load_recipe(choice.recipe, plan.settings(choice, plan.seeds[0]))
        except ConfigError as error:
            raise ConfigError(f"--recipe {choice.spec!r}: {error}") from error
    return plan


def _report(out: Path, plan: Plan, *, json: bool) -> None:
    from fanin.compare.outcome import collect, write_files
    from fanin.report.tables import TABLES, table_rows

    outcome = collect(out, plan)
    files = write_files(out, outcome, note)
    if json:
        write_json(_document(out, outcome, files))
        return
    for heading, columns in TABLES.items():
        header, *rows = table_rows(columns, outcome.summaries)
        write_line(heading)
        write_table(header, rows)
    split = "the test split" if outcome.split == "test" else "the validation rows"
    write_line(f"scores of {split}, mean ± deviation over seeds; written: {', '.join(map(str, files))}")


def _document(out: Path, outcome: Outcome, files: list[Path]) -> dict[str, Any]:
    plan = outcome.plan
    specs = {choice.name: choice.spec for choice in plan.recipes}
    return {
        "comparison": str(out),
        "data": plan.data,
        "budget": str(plan.budget),
        "device": plan.device,
        "machine": plan.machine,
        "split": outcome.split,
        "recipes": [
            {
                "name": summary.name,
                "recipe": specs[summary.name],
                "steps": plan.steps.get(summary.name),
                "mean": {name: figure.mean for name, figure in summary.figures.items()},
                "deviation": {name: figure.deviation for name, figure in summary.figures.items()},
                "runs": [
                    {"run": str(run.folder), "seed": run.seed, **figures}
                    for run, figures in outcome.figures.items()
                    if run.choice.name == summary.name
                ],
            }
            for summary in outcome.summaries
        ],
        "files": [str(file) for file in files],
    }
