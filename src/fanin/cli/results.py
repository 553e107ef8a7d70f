"""``fanin results``: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fanin.cli.options import Json
from fanin.cli.output import mebibytes, percent, stored_size, write_json, write_table
from fanin.errors import CheckpointError

_SCORES = ("P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5")
_FIGURES = ("classifier_bytes", "peak_bytes", "train_seconds")


def compare_results(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of finished trainings.")],
    json: Json = False,
) -> None:
    """Compare finished runs in one table.

    A row each: P@k, PSP@k, classifier size, peak memory, and seconds of training. The scores are of the test split, or
    of the validation rows where one of the runs has left the test split alone.
    """
    from fanin.report.finished_runs import common_split, read_metrics

    found = {run: read_metrics(run) for run in runs}
    split = common_split(found.values())
    rows = [{"run": str(run), "split": split, **_row(run, metrics, split)} for run, metrics in found.items()]
    if json:
        write_json(rows)
        return
    header = ["run", *_SCORES, "classifier", "peak memory", "training"]
    write_table(header, [_cells(row) for row in rows])
    write_table(None, [(f"scores in %, {split} split",)])


def _row(run: Path, metrics: dict[str, Any], split: str) -> dict[str, float | None]:
    """The scores at the usual ranks, None where a run's recipe has others, and the figures."""
    try:
        scores = {name: float(metrics[split][name]) if name in metrics[split] else None for name in _SCORES}
        return scores | {name: float(metrics[name]) for name in _FIGURES}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run}: its metrics are damaged ({error}); copy the run folder again") from error


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["run"],
        *("-" if row[name] is None else percent(row[name]) for name in _SCORES),
        stored_size(row["classifier_bytes"]),
        mebibytes(row["peak_bytes"]),
        f"{row['train_seconds']:,.1f} s",
    ]
