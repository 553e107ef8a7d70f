"""How fast a trained model predicts: texts a second in batch, and the time of a single text."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fanin.model import TextModel


@dataclass(frozen=True)
class PredictionSpeed:
    """Times of one model on one machine; texts are tokenised, encoded and ranked, names looked up.

    Attributes:
        texts: how many were predicted in each run.
        k: labels a text.
        runs: how often all texts were predicted.
        texts_per_second: the median of the runs.
        single_text_ms: median time of a call with one text, in milliseconds.
        single_text_p95_ms: 95th percentile of it.
    """

    texts: int
    k: int
    runs: int
    texts_per_second: float
    single_text_ms: float
    single_text_p95_ms: float


def measure_prediction(model: TextModel, texts: Iterable[str], *, k: int = 5, runs: int = 5) -> PredictionSpeed:
    """Predict texts in batch and one by one, after a warm-up of each.

    Args:
        model: a loaded model.
        texts: at most the first 10,000 are used, 200 of them one by one.
        k: labels a text.
        runs: repetitions of the batch prediction.

    Raises:
        DataError: there are no texts.
    """
    chosen = list(islice(texts, 10_000))
    if not chosen:
        raise DataError("there are no texts to predict; give a data set with at least one")
    model.predict(chosen[:64], k)
    batch = [len(chosen) / _seconds(model, chosen, k) for _ in range(runs)]
    single = sorted(1e3 * _seconds(model, [text], k) for text in chosen[:200])
    return PredictionSpeed(
        texts=len(chosen),
        k=k,
        runs=runs,
        texts_per_second=statistics.median(batch),
        single_text_ms=statistics.median(single),
        single_text_p95_ms=single[int(0.95 * (len(single) - 1))],
    )


def _seconds(model: TextModel, texts: list[str], k: int) -> float:
    started = time.perf_counter()
    model.predict(texts, k)
    return time.perf_counter() - started
