"""Running what a plan says: every run in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from fanin.compare.plan import planned_runs, write_plan
from fanin.compare.training_process import run_fanin
from fanin.errors import CheckpointError, ConfigError, FaninError
from fanin.recipes.recipe_files import load_recipe
from fanin.report.finished_runs import read_metrics
from fanin.runs.checkpoint_series import newest_step
from fanin.runs.run_folder import CHECKPOINTS, LOG, RECIPE
from fanin.training.device import resolve_device
from fanin.training.preparation import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fanin.compare.choices import RecipeChoice
    from fanin.compare.plan import Plan, PlannedRun
    from fanin.data.dataset import Dataset
    from fanin.training.progress import ProgressDisplay

_INTERRUPTED = 130
_PROBE_STEPS, _PROBE_WARMUP = 200, 20  # warm-up steps are slower: caches and pages are touched for the first time
_PROBE = (
    f"training.steps={_PROBE_STEPS}",
    f"training.log_every={_PROBE_WARMUP}",
    f"training.evaluate_every={_PROBE_STEPS}",  # once, at the end
)


class Runner:
    """Runs the trainings of one comparison.

    Args:
        folder: of the comparison.
        dataset: what is trained on.
        lock: the descriptor of :func:`fanin.compare.plan.opened`; a training that outlives this process keeps it.
        say: told in a line what goes on.
        quiet: whether the trainings show no progress.
    """

    def __init__(self, folder: Path, dataset: Dataset, lock: int, say: Callable[[str], None], *, quiet: bool) -> None:
        self._folder, self._dataset, self._lock, self._say, self._quiet = folder, dataset, lock, say, quiet

    def run(self, plan: Plan, display: ProgressDisplay) -> list[str]:
        """Make every run that is not finished; those that are stay as they are.

        Args:
            plan: what to run.
            display: told of the preparation of the data.

        Returns:
            The runs that failed, in words; their messages stand on standard error.

        Raises:
            ConfigError: a finished run was made by other settings than the plan's, or a folder is in the way.
            KeyboardInterrupt: a training was interrupted.
        """
        self._check_finished(plan)
        runs = planned_runs(self._folder, plan)
        pending = [run for run in runs if not run.finished]
        if len(pending) < len(runs):
            self._say(f"{len(runs) - len(pending)} of {len(runs)} runs are finished and kept")
        self._prepare(plan, pending, display)
        if plan.budget.unit == "seconds":
            plan, without_steps = self._with_steps(plan, pending)
        else:
            without_steps = {}
        failed = list(without_steps.values())
        for i, run in enumerate(pending, 1):
            if run.choice.name in without_steps:
                continue
            self._say(f"run {i} of {len(pending)}: {run}")
            code = self._make(run, plan)
            if code:
                failed.append(f"{run} ({_reason(code)})")
        return failed

    def _check_finished(self, plan: Plan) -> None:
        """Hold the finished runs' recipes against the plan's: the file of a recipe may have changed since."""
        for run in planned_runs(self._folder, plan):
            if not run.finished:
                continue
            try:
                wanted = load_recipe(run.choice.recipe, plan.settings(run.choice, run.seed))
                same = load_recipe(run.folder / RECIPE) == wanted
            except ConfigError:
                same = False
            if not same:
                raise ConfigError(
                    f"{run.folder}: was made by other settings than {run.choice.spec!r} has now; its figures do not "
                    "belong beside new ones. Delete it, or name another folder"
                )

    def _prepare(self, plan: Plan, pending: list[PlannedRun], display: ProgressDisplay) -> None:
        """Tokenise before the first training, whose peak memory and cache would otherwise not be like the others'."""
        place = resolve_device(plan.device)
        try:
            for choice in dict.fromkeys(run.choice for run in pending):
                recipe = load_recipe(choice.recipe, plan.settings(choice, plan.seeds[0]))
                prepare(self._dataset, recipe, None, display, place)
        finally:
            display.close()

    def _with_steps(self, plan: Plan, pending: list[PlannedRun]) -> tuple[Plan, dict[str, str]]:
        """The plan with the steps of a budget of seconds, noted in the folder; and the recipes that failed."""
        failed = {}
        for choice in dict.fromkeys(run.choice for run in pending):
            if choice.name in plan.steps:
                continue
            probe = self._folder / choice.folder / "probe"
            shutil.rmtree(probe, ignore_errors=True)
            self._say(f"{choice.name}: how many steps are {plan.budget.amount} seconds?")
            settings = [*plan.settings(choice, plan.seeds[0]), *_PROBE]
            code = self._train(choice, settings, probe, plan.device, score_test=False)
            if code:
                failed[choice.name] = f"{choice.name} ({_reason(code)})"
                continue
            steps = steps_within(plan.budget.amount, probe)
            shutil.rmtree(probe)
            self._say(f"{choice.name}: {steps:,} steps")
            plan = replace(plan, steps={**plan.steps, choice.name: steps})
            write_plan(self._folder, plan)
        return plan, failed

    def _make(self, run: PlannedRun, plan: Plan) -> int:
        """Make a run, from its last checkpoint if it has one of these settings; gives the exit code."""
        settings, step = plan.settings(run.choice, run.seed), newest_step(run.folder / CHECKPOINTS)
        if step is not None and load_recipe(run.folder / RECIPE) == load_recipe(run.choice.recipe, settings):
            self._say(f"{run}: goes on after step {step}")
            return self._run_fanin("resume", str(run.folder), "--data", str(self._dataset.path.resolve()))
        self._clear(run)
        return self._train(run.choice, settings, run.folder, plan.device, score_test=plan.score_test)

    def _train(self, choice: RecipeChoice, settings: list[str], out: Path, device: str, *, score_test: bool) -> int:
        arguments = ["train", str(self._dataset.path.resolve()), "--recipe", choice.recipe, "--out", str(out)]
        arguments += ["--device", device]
        arguments += [part for setting in settings for part in ("--set", setting)]
        return self._run_fanin(*arguments, *([] if score_test else ["--no-test"]))

    def _run_fanin(self, *arguments: str) -> int:
        code = run_fanin([*arguments, *(["--quiet"] if self._quiet else [])], self._lock)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        return code

    def _clear(self, run: PlannedRun) -> None:
        if not run.folder.exists():
            return
        if not (run.folder / RECIPE).is_file() and any(run.folder.iterdir()):
            raise ConfigError(f"{run.folder}: is in the way and no run folder; move it away, or name another folder")
        self._say(f"{run}: was left half done, starts again")
        shutil.rmtree(run.folder)


def steps_within(seconds: float, probe: Path) -> int:
    """How many steps train in so many seconds, judging by a short run: its start is paid once, its steps each.

    Args:
        seconds: the budget.
        probe: the run folder of the short run.

    Raises:
        CheckpointError: its log is damaged.
        FaninError: the start alone takes longer.
    """
    try:
        lines = [json.loads(line) for line in (probe / LOG).read_text(encoding="utf-8").splitlines()]
        times = {line["step"]: line["seconds"] for line in lines if line["event"] == "step"}
        first, last = min(times), max(times)
        each = (times[last] - times[first]) / (last - first)
        start = max(float(read_metrics(probe)["train_seconds"]) - last * each, 0.0)
        steps = int((seconds - start) / each)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(f"{probe / LOG}: damaged ({error!r}); start the comparison again") from error
    if steps < 1:
        raise FaninError(
            f"{probe}: {seconds} seconds are not enough: the start takes {start:.1f} and a step {each:.3f}; "
            "give a larger --budget"
        )
    return steps


def _reason(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
