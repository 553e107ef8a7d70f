"""Figures of one run, and their mean and deviation over runs that differ in the seed alone."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError
from fanin.evaluation.metrics import SCORES
from fanin.labels.frequency import GROUP_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RANKS = (1, 3, 5)
_COSTS = ("classifier_bytes", "model_bytes", "peak_bytes", "train_texts_per_second", "train_seconds")
# Every figure that a run may have: shares, then bytes, texts a second and seconds.
SHARES = (
    *(f"{score}@{k}" for score in SCORES for k in RANKS),
    *(f"{group} P@{k}" for group in GROUP_NAMES for k in RANKS),
)
FIGURES = (*SHARES, *_COSTS, "scored_texts_per_second")


@dataclass(frozen=True)
class Figure:
    """One figure over several runs.

    Attributes:
        mean: of the runs.
        deviation: sample standard deviation (n - 1); None for a single run.
    """

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Summary:
    """All runs of one recipe.

    Attributes:
        name: of the recipe.
        runs: how many there are.
        figures: by name, those of :data:`FIGURES` that every run has.
    """

    name: str
    runs: int
    figures: Mapping[str, Figure]


def run_figures(run: Path, metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """The figures of one run; scores at ranks that its recipe does not report are absent.

    Args:
        run: its folder, for messages.
        metrics: what :func:`fanin.report.finished_runs.read_metrics` gave.
        split: "test" or "validation", whose scores are meant.

    Raises:
        CheckpointError: the metrics are damaged.
    """
    try:
        scores = metrics[split]
        found = {name: scores[name] for name in SHARES if name in scores}
        for group, contributions in scores["groups"].items():
            found |= {f"{group} P@{k}": contributions[f"P@{k}"] for k in RANKS if f"P@{k}" in contributions}
        found |= {name: metrics[name] for name in _COSTS}
        found["scored_texts_per_second"] = scores["texts_per_second"]
        return {name: float(value) for name, value in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{run}: its metrics are damaged ({error!r}); copy the run folder again") from error


def summarise(name: str, runs: Sequence[Mapping[str, float]]) -> Summary:
    """Mean and sample standard deviation of every figure that all of the runs have.

    Args:
        name: of the recipe.
        runs: the figures of each run, one run or more.

    >>> summarise("default", [{"P@1": 0.5}, {"P@1": 0.7}]).figures["P@1"].mean
    0.6
    """
    assert runs, "a recipe without runs has no figures"
    shared = [figure for figure in FIGURES if all(figure in run for run in runs)]
    return Summary(name, len(runs), {figure: _figure([run[figure] for run in runs]) for figure in shared})


def _figure(values: list[float]) -> Figure:
    return Figure(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
