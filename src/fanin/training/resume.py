"""Going on with a run that was stopped or killed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanin.data.formats import open_dataset
from fanin.errors import BackendError, CheckpointError, ConfigError
from fanin.processes.group import ALONE
from fanin.processes.launch import own_place
from fanin.recipes.recipe_files import load_recipe, recipe_from_values
from fanin.runs.checkpoint import surroundings
from fanin.runs.checkpoint_series import CheckpointSeries
from fanin.runs.run_folder import RECIPE, RUN_FILE
from fanin.runs.run_log import LogMark
from fanin.training.device import resolve_device
from fanin.training.preparation import prepare
from fanin.training.together import prepare_together, recipe_from_first
from fanin.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import torch

    from fanin.data.dataset import Dataset
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.runs.checkpoint import Checkpoint
    from fanin.runs.run_folder import RunFolder
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.stop_signals import StopSignals
    from fanin.training.trainer import TrainingResult

# What the state of a run does not depend on.
_CHANGEABLE = re.compile(r"training\.(checkpoint\.\w+|on_non_finite|log_every)|.*\.learning_rate")


def resume_run(
    run: RunFolder,
    display: ProgressDisplay,
    *,
    data: Path | None = None,
    settings: Iterable[str] = (),
    cache: Path | None = None,
    stop: StopSignals | None = None,
    device: torch.device | None = None,
    processes: Processes = ALONE,
    admit: Callable[[Recipe, Dataset, torch.device], None] | None = None,
) -> TrainingResult:
    """Go on with a run from its newest whole checkpoint, or from its first step where it has none, to its end.

    On one CPU thread the result is bit for bit that of a run that was never interrupted; on several threads it is
    within what the order of sums may change.

    Args:
        run: what :meth:`fanin.runs.run_folder.RunFolder.open` gave; not finished.
        display: told of the progress, and what is gone on from.
        data: the data set, where it has moved.
        settings: changes of single settings, each "section.key=value": learning rates, checkpoints,
            ``training.on_non_finite`` and ``training.log_every``. They are written into the run's recipe.
        cache: see :func:`fanin.training.preparation.prepare`.
        stop: signals to stop.
        device: where it goes on; by default where it was started, each of several processes on a GPU of its own.
        processes: that go on with it together, as many as one likes; the first one reads and writes the run folder.
        admit: called with the recipe, the data set and the device before anything of size is made; it may refuse by
            raising.

    Raises:
        CheckpointError: no checkpoint is whole although there are some, or they belong to other data or settings.
        ConfigError: another setting is to be changed.
        DataError: the data set is not there any more.
        BackendError: it was started on a GPU that is not there.

    Example:
        with RunFolder.open(Path("runs/mine")) as run:
            result = resume_run(run, Silent())
    """
    assert not run.finished, "there is nothing left to do"
    device = device or _former_device(run)
    before = recipe_from_first(processes, lambda: load_recipe(run.path / RECIPE))
    recipe = recipe_from_first(processes, lambda: load_recipe(run.path / RECIPE, settings))
    checkpoint = CheckpointSeries(run.checkpoints, recipe.training.checkpoint, processes).newest(display.say)
    if checkpoint is not None:
        before = recipe_from_values(checkpoint.facts.recipe, str(checkpoint.folder))
    _check_changes(run, before, recipe)
    dataset = open_dataset(data or Path(run.origin.data))
    if admit is not None:
        admit(recipe, dataset, device)
    prepared = prepare_together(processes, lambda: prepare(dataset, recipe, cache, display, device))
    if checkpoint is not None:
        _check_data(checkpoint, prepared, run.origin.data)
        _tell_surroundings(checkpoint, recipe, display)
    if recipe != before:
        _write_recipe(run, recipe)
    trainer = Trainer(
        recipe, prepared, run, display, stop=stop, checkpoint=checkpoint, device=device, processes=processes
    )
    if checkpoint is None:
        run.log.return_to(LogMark(0, 0.0))
        display.say("no checkpoint yet: starting from the first step")
    else:
        display.say(f"going on after step {checkpoint.facts.position.step}")
    run.log.write("resume", step=0 if checkpoint is None else checkpoint.facts.position.step)
    return trainer.train()


def _former_device(run: RunFolder) -> torch.device:
    place, name = own_place(), run.origin.device
    try:
        return resolve_device(name if place is None else name.partition(":")[0], place)
    except BackendError as error:
        raise BackendError(
            f"{run.path}: this run was started on a GPU; to go on without it give --device cpu ({error})"
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{run.path / RUN_FILE}: {error}; or give another with --device") from error


def _check_changes(run: RunFolder, before: Recipe, now: Recipe) -> None:
    old, new = (dict(_plain_settings(recipe.model_dump(mode="json"))) for recipe in (before, now))
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name, ...) != new.get(name, ...))
    fixed = [name for name in changed if not _CHANGEABLE.fullmatch(name)]
    if fixed:
        raise ConfigError(
            f"{run.path / RECIPE}: {', '.join(fixed)} cannot be changed in a run that goes on: learning rates, "
            "training.checkpoint, training.on_non_finite and training.log_every can. Set it back, or train anew"
        )


def _plain_settings(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its whole name."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _plain_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _check_data(checkpoint: Checkpoint, prepared: PreparedData, started_with: str) -> None:
    facts, tokenizer = checkpoint.facts, prepared.tokenizer
    if facts.data_key != prepared.key:
        raise CheckpointError(
            f"{checkpoint.folder}: belongs to other data: the run was started with {started_with} as it was then; give "
            "that data set with --data"
        )
    if facts.tokenizer_key != (None if tokenizer is None else tokenizer.key):
        raise CheckpointError(
            f"{checkpoint.folder}: belongs to another tokenizer than encoder.model has now, or than this version "
            "makes; put the former one back, or train anew"
        )


def _tell_surroundings(checkpoint: Checkpoint, recipe: Recipe, display: ProgressDisplay) -> None:
    now = surroundings(recipe.model_dump(mode="json"))
    before = {name: value for name, value in checkpoint.versions.items() if value != now.get(name)}
    if before:
        told = ", ".join(f"{name} {value} (now {now.get(name)})" for name, value in before.items())
        display.say(f"note: the checkpoint was written with {told}; results may differ in the last digits")


def _write_recipe(run: RunFolder, recipe: Recipe) -> None:
    try:
        run.write_recipe(recipe)
    except OSError as error:
        raise CheckpointError(f"{run.path / RECIPE}: cannot be written ({error.strerror or error})") from error
