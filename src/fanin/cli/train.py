"""``fanin train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.options import Data, Device, Json, Quiet
from fanin.cli.output import note
from fanin.cli.run_output import how_to_go_on, refuse_together, write_result
from fanin.errors import MemoryPlanError


def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to make; new or empty.")],
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="NAME|FILE", help="A recipe of 'fanin recipes', or a YAML file."),
    ] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as classifier.fan_in=64. Repeatable."),
    ] = None,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Leave the test split unscored, as tuning must; validation scores remain.")
    ] = False,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model by a recipe, score it, and write a run folder.

    On Ctrl-C or SIGTERM the training saves where it stands, and "fanin resume RUN" goes on from there. Started by
    torchrun, several processes share the labels and the texts of a batch; with --device cuda each has its own GPU.
    """
    from fanin.cli.progress import make_display
    from fanin.data.formats import open_dataset
    from fanin.memory.check import check_memory
    from fanin.processes.launch import joined_processes, own_place
    from fanin.recipes.recipe_files import load_recipe
    from fanin.runs.run_folder import RunFolder
    from fanin.training.device import resolve_device
    from fanin.training.followed_run import opened_by_first
    from fanin.training.preparation import prepare
    from fanin.training.stop_signals import Stopped, StopSignals
    from fanin.training.together import prepare_together
    from fanin.training.trainer import Trainer

    chosen, place = load_recipe(recipe, settings or []), resolve_device(device, own_place())
    dataset = open_dataset(data)
    with joined_processes() as processes, StopSignals() as stop:
        try:
            check_memory(chosen, dataset, place, processes)
        except MemoryPlanError as error:
            refuse_together(error, processes)
        display = make_display(quiet=quiet, first=processes.first)

        def create() -> RunFolder:
            return RunFolder.create(out, chosen, data, score_test=not no_test, device=device)

        with opened_by_first(processes, create) as run:
            begun = False
            try:
                prepared = prepare_together(processes, lambda: prepare(dataset, chosen, None, display, place))
                trainer = Trainer(chosen, prepared, run, display, stop=stop, device=place, processes=processes)
                begun = True
                metrics = trainer.train().metrics
            except BaseException as error:
                display.close()
                if not begun:
                    run.discard()  # so that the name can be used again
                if isinstance(error, Stopped):
                    if processes.first:
                        note(how_to_go_on(run) if begun else "stopped before training began: nothing was written")
                    raise typer.Exit(error.exit_code) from None
                raise
    if processes.first:
        write_result(out, {"recipe": recipe, **metrics}, json=json)
