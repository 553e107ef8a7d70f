"""Scores of a model on a tokenised split."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from fanin.data.batches import gather_rows
from fanin.evaluation.metrics import MetricAccumulator, Metrics
from fanin.kernels.spec import Positives
from fanin.labels.propensity import inverse_propensities
from fanin.processes.group import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.data.batches import Batch, Batches
    from fanin.data.label_rows import LabelRows
    from fanin.model import TextModel
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import EvaluationSection
    from fanin.training.progress import ProgressDisplay

    Ranking: TypeAlias = Callable[[Batch, int, Positives | None], Tensor]
    """The ids of the k best labels of a batch, (B, k), but for the pairs that are barred."""


@dataclass(frozen=True)
class Scores:
    """Scores of one split.

    Attributes:
        metrics: every metric.
        seconds: of encoding, ranking and scoring.
        texts_per_second: texts ranked and scored a second.
    """

    metrics: Metrics
    seconds: float
    texts_per_second: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.metrics.as_dict(),
            "seconds": round(self.seconds, 3),
            "texts_per_second": round(self.texts_per_second, 1),
        }


def score_split(
    model: TextModel,
    batches: Batches,
    section: EvaluationSection,
    display: ProgressDisplay,
    excluded: LabelRows | None = None,
    label_count: int | None = None,
    ranking: Ranking | None = None,
    processes: Processes = ALONE,
) -> Scores:
    """Rank every text of a split and score the rankings, batch by batch.

    Args:
        model: what to score; labels of ``batches`` are its own ids, ids from L on are labels that it does not know.
        batches: the rows, in order.
        section: cut-offs and propensity model.
        display: told of the progress.
        excluded: pairs of row and label that must not be predicted.
        label_count: number of labels, those included that the model does not know; by default its own L.
        ranking: how a batch is ranked, where the model alone cannot.
        processes: that rank together. The first one alone keeps what metrics need of every label, and tells the others.
    """
    started = time.monotonic()
    accumulator = _accumulator(model, section, label_count) if processes.first else None
    for batch in batches.epoch():
        barred = None if excluded is None else _positives(excluded, batch.rows)
        if ranking is None:
            _, labels = model.rank(batch.inputs, max(section.ks), barred)
        else:
            labels = ranking(batch, max(section.ks), barred)
        if accumulator is not None:
            accumulator.update(labels.numpy(), batch.indptr, batch.indices)
        display.advance(len(batch))
    metrics = _metrics_of_first(accumulator, processes)
    seconds = time.monotonic() - started
    return Scores(metrics, seconds, batches.n_rows / seconds)


def _accumulator(model: TextModel, section: EvaluationSection, label_count: int | None) -> MetricAccumulator:
    unknown = 0 if label_count is None else label_count - len(model.labels)
    train_counts = np.pad(model.train_counts, (0, unknown))  # (label_count,)
    return MetricAccumulator(
        ks=section.ks,
        train_counts=train_counts,
        inverse_propensities=inverse_propensities(
            train_counts, model.train_points, section.propensity_a, section.propensity_b
        ),
    )


def _metrics_of_first(accumulator: MetricAccumulator | None, processes: Processes) -> Metrics:
    """What the first process has gathered, the same in all to the last digit."""
    own = None if accumulator is None else accumulator.result()
    told = processes.told_by_first(lambda: asdict(own))  # type: ignore[arg-type] # the first one has it
    return Metrics(**told) if own is None else own


def _positives(pairs: LabelRows, rows: NDArray[np.int64]) -> Positives:
    """Some rows of the pairs, as the kernels want them."""
    labels, indptr = gather_rows(pairs.indices, pairs.indptr, rows)
    return Positives(torch.from_numpy(indptr), torch.from_numpy(labels))
