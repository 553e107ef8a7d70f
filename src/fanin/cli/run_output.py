"""What the commands that train print: the result, or how a run that was stopped goes on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from fanin.cli.output import mebibytes, stored_size, write_error, write_json, write_line, write_table

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

    from fanin.errors import FaninError
    from fanin.processes.group import Processes
    from fanin.runs.run_folder import RunFolder


def write_result(run: Path, metrics: dict[str, Any], *, json: bool) -> None:
    """The scores and figures of a finished run, in tables or as one JSON document."""
    if json:
        write_json({"run": str(run), **metrics})
        return
    _write_tables(metrics)
    write_line(f"run folder: {run}")


def _write_tables(metrics: dict[str, Any]) -> None:
    from fanin.cli.score_tables import group_rows, score_header, score_rows

    split = "test" if "test" in metrics else "validation"
    scores = metrics[split]
    figures = {
        "scored": f"{scores['points']:,} {split} texts",
        "classifier": stored_size(metrics["classifier_bytes"]),
        "model": stored_size(metrics["model_bytes"]),
        "peak memory": mebibytes(metrics["peak_bytes"]),
        **({"peak GPU memory": mebibytes(metrics["gpu_peak_bytes"])} if "gpu_peak_bytes" in metrics else {}),
        "training": f"{metrics['train_seconds']:,.1f} s",
    }
    write_table(score_header(scores), score_rows(scores), group_rows(scores))
    write_table(None, figures.items())


def refuse_together(error: FaninError, processes: Processes) -> NoReturn:
    """End all processes of a run by an error that each of them has, and that the first one tells.

    Raises:
        typer.Exit: with 2, the exit code of what was refused.
    """
    if processes.first:
        write_error(error)
    processes.wait()  # torchrun ends all of them as soon as one has ended
    raise typer.Exit(2)


def how_to_go_on(run: RunFolder) -> str:
    """A line for somebody who stopped a run after it had begun."""
    from fanin.runs.checkpoint_series import newest_step

    step = newest_step(run.checkpoints)
    begin = "stopped before its first step" if step is None else f"stopped after step {step:,}, which is saved"
    kept = f"; the best model so far is kept in {run.model}" if run.has_model else ""
    return f"{begin}; go on with: fanin resume {shlex.quote(str(run.path))}{kept}"
