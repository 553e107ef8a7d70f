"""Reading what finished runs have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError
from fanin.json_files import read_json
from fanin.runs.run_folder import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def read_metrics(run: Path) -> dict[str, Any]:
    """What a finished run has measured, as its metrics.json holds it.

    Raises:
        CheckpointError: it is missing, unreadable, or not the metrics of a run.
    """
    path = run / METRICS
    wanted = "give the run folder of a finished training"
    metrics = read_json(path, unreadable=wanted, damaged="copy the run folder again")
    if not isinstance(metrics, dict) or "validation" not in metrics:
        raise CheckpointError(f"{path}: does not hold the metrics of a run; {wanted}")
    return metrics


def common_split(found: Iterable[Mapping[str, Any]]) -> str:
    """The split whose scores can stand in one column: "test" if every run has scored it, else "validation".

    >>> common_split([{"validation": {}, "test": {}}, {"validation": {}}])
    'validation'
    """
    return "test" if all("test" in metrics for metrics in found) else "validation"
