"""``fanin resume``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.options import Json, Quiet
from fanin.cli.output import note
from fanin.cli.run_output import how_to_go_on, refuse_together, write_result
from fanin.errors import MemoryPlanError


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a fanin train that was stopped.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="The data set, where it is not where it was.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a learning rate, training.checkpoint.*, training.on_non_finite or training.log_every. "
            "Repeatable.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Where to go on: cpu, cuda, or cuda:N.",
            show_default="where it was started",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a training that was stopped or killed, from its newest checkpoint, to the same result."""
    from fanin.cli.progress import make_display
    from fanin.memory.check import check_memory
    from fanin.processes.launch import joined_processes, own_place
    from fanin.report.finished_runs import read_metrics
    from fanin.runs.run_folder import RunFolder
    from fanin.training.device import resolve_device
    from fanin.training.followed_run import opened_by_first
    from fanin.training.resume import resume_run
    from fanin.training.stop_signals import Stopped, StopSignals

    place = None if device is None else resolve_device(device, own_place())
    with joined_processes() as processes, StopSignals() as stop:
        display = make_display(quiet=quiet, first=processes.first)
        with opened_by_first(processes, lambda: RunFolder.open(run)) as folder:
            if folder.finished:
                if not processes.first:
                    return
                note(f"{run}: the run is finished; nothing is left to do")
                metrics = read_metrics(run)
            else:
                try:
                    result = resume_run(
                        folder,
                        display,
                        data=data,
                        settings=settings or [],
                        stop=stop,
                        device=place,
                        processes=processes,
                        admit=partial(check_memory, processes=processes),
                    )
                    metrics = result.metrics
                except MemoryPlanError as error:
                    display.close()
                    refuse_together(_told_of_a_run(run, error), processes)
                except Stopped as error:
                    display.close()
                    if processes.first:
                        note(how_to_go_on(folder))
                    raise typer.Exit(error.exit_code) from None
                finally:
                    display.close()
    if processes.first:
        write_result(run, metrics, json=json)


def _told_of_a_run(run: Path, error: MemoryPlanError) -> MemoryPlanError:
    """What does not fit, and what can be done where settings are fixed."""
    return MemoryPlanError(
        f"{run}: {error}\nThe settings of a run that goes on cannot be changed so: free some memory, go on on a larger "
        "machine or in more processes (a run folder can be moved), or train anew with one of them"
    )
