"""What the commands that train print: the result, or how a run that was stopped goes on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from fanin.cli.output import mebibytes, stored_size, write_error, write_json, write_line, write_table
from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

    from fanin.errors import FaninError
    from fanin.processes.group import Processes
    from fanin.runs.run_folder import RunFolder


def write_result(run: Path, metrics: dict[str, Any], *, json: bool) -> None:
    """The scores and figures of a finished run, in tables or as one JSON document.

    Raises:
        CheckpointError: they are not those of a run.
    """
    try:
        header, scores, groups, figures = _tables(metrics)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{run}: its metrics are damaged ({error!r}); copy the run folder again") from error
    if json:
        write_json({"run": str(run), **metrics})
        return
    write_table(header, scores, groups)
    write_table(None, figures)
    write_line(f"run folder: {run}")


def _tables(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]], list[list[str]], list[tuple[str, str]]]:
    """The header of the scores, their rows, those of groups of labels, and the figures."""
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
    return score_header(scores), score_rows(scores), group_rows(scores), list(figures.items())


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
