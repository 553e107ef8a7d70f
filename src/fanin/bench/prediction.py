"""How fast a trained model predicts: texts a second in batch, and the time of a single text."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fanin.classifier.beam import Beam
    from fanin.model import TextModel


@dataclass(frozen=True)
class PredictionSpeed:
    """Times of one model on one machine; texts are tokenised, encoded and ranked, names looked up.

    Attributes:
        texts: how many were predicted in each run.
        k: labels a text.
        runs: how often all texts were predicted.
        beam: clusters a text whose labels were scored; None for all labels.
        texts_per_second: the median of the runs.
        texts_per_cpu_second: in a second of processor time, which other processes on the machine change little.
        single_text_ms: median time of a call with one text, in milliseconds.
        single_text_p95_ms: 95th percentile of it.
    """

    texts: int
    k: int
    runs: int
    beam: int | None
    texts_per_second: float
    texts_per_cpu_second: float
    single_text_ms: float
    single_text_p95_ms: float


def measure_prediction(
    model: TextModel, texts: Iterable[str], *, k: int = 5, runs: int = 5, beam: Beam | None = None
) -> PredictionSpeed:
    """Predict texts in batch and one by one, after a warm-up of each.

    Args:
        model: a loaded model.
        texts: at most the first 10,000 are used, 200 of them one by one.
        k: labels a text.
        runs: repetitions of the batch prediction.
        beam: made for this model, to score the labels of a few clusters only.

    Raises:
        DataError: there are no texts.
    """
    chosen = list(islice(texts, 10_000))
    if not chosen:
        raise DataError("there are no texts to predict; give a data set with at least one")
    model.predict(chosen[:64], k, beam=beam)
    batch = [_seconds(model, chosen, k, beam) for _ in range(runs)]
    single = sorted(1e3 * _seconds(model, [text], k, beam).clock for text in chosen[:200])
    return PredictionSpeed(
        texts=len(chosen),
        k=k,
        runs=runs,
        beam=None if beam is None else beam.width,
        texts_per_second=len(chosen) / statistics.median(seconds.clock for seconds in batch),
        texts_per_cpu_second=len(chosen) / statistics.median(seconds.processor for seconds in batch),
        single_text_ms=statistics.median(single),
        single_text_p95_ms=single[int(0.95 * (len(single) - 1))],
    )


class _Seconds(NamedTuple):
    clock: float
    processor: float


def _seconds(model: TextModel, texts: list[str], k: int, beam: Beam | None) -> _Seconds:
    started = time.perf_counter(), time.process_time()
    model.predict(texts, k, beam=beam)
    return _Seconds(time.perf_counter() - started[0], time.process_time() - started[1])
