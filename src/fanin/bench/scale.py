"""Whole training runs at growing numbers of labels, on synthetic data: peak memory and time of a step."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.data.synthetic import SyntheticTexts, write_synthetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LABEL_COUNTS = (100_000, 300_000, 1_000_000)
GROUP_SIZES = (1, 32)

_RECIPE = "plain"
_SETTINGS = (
    "encoder.out_features=512",
    "classifier.fan_in=32",
    "classifier.update={kind: sgd}",
    "classifier.schedule.learning_rate=0.1",
    "training.batch_size=128",
    "training.validation_rows=512",
    "evaluation.ks=[1, 10]",
)
_LEAST_ROWS, _LABELS_A_ROW = 100_000, 5
_WARM_UP = 10  # steps in which pages are touched for the first time
# A process of its own: the peak of this one would count everything that it did before.
_CHILD = "import sys; from fanin.bench.scale import train_and_report; train_and_report(*sys.argv[1:])"


@dataclass(frozen=True)
class ScaleRun:
    """One training run in a process of its own, from files to the scores of the saved model.

    Attributes:
        labels: L.
        group_size: G.
        rows: training texts.
        steps: training steps.
        imports_gib: peak resident memory before anything was read: Python, torch, fanin.
        prepared_gib: after the texts were tokenised.
        built_gib: after labels were ordered and the model was made.
        peak_gib: at the end (VmHWM on Linux, mapped pages of files included).
        prepare_s: seconds to tokenise.
        build_s: seconds to order the labels and to make the model.
        build_cpu_s: processor time of that, of all threads together.
        step_ms: median time of a step.
        step_cpu_ms: median processor time of a step, which other processes on the machine change little.
        predicted_per_s: texts encoded and ranked in a second, the exact ten best labels of each.
        predicted_per_cpu_s: in a second of processor time.
    """

    labels: int
    group_size: int
    rows: int
    steps: int
    imports_gib: float
    prepared_gib: float
    built_gib: float
    peak_gib: float
    prepare_s: float
    build_s: float
    build_cpu_s: float
    step_ms: float
    step_cpu_ms: float
    predicted_per_s: float
    predicted_per_cpu_s: float


class Line(NamedTuple):
    """A straight line through measurements.

    Attributes:
        base: value at no labels.
        per_million: rise with a million labels.
        worst_share: largest distance of a measurement from the line, as a share of the measurement.
    """

    base: float
    per_million: float
    worst_share: float


def straight_line(labels: Sequence[int], values: Sequence[float]) -> Line:
    """The line with the least squares of relative distances; of one measurement alone a line without a rise.

    >>> straight_line([1_000_000, 2_000_000, 4_000_000], [3.0, 5.0, 9.0])
    Line(base=1.0, per_million=2.0, worst_share=0.0)
    """
    x, y = np.asarray(labels) / 1e6, np.asarray(values, np.float64)
    columns = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    base, rise = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)[0] if len(y) > 1 else (y[0], 0.0)
    worst = np.abs((base + rise * x) / y - 1).max()
    return Line(*(round(float(value), 6) for value in (base, rise, worst)))


def measure_scale(
    label_counts: Iterable[int] = LABEL_COUNTS,
    group_sizes: Sequence[int] = GROUP_SIZES,
    *,
    steps: int = 300,
    folder: Path | None = None,
    done: Callable[[ScaleRun], None] | None = None,
) -> list[ScaleRun]:
    """Train at each number of labels and each group size: bag encoder, D = 512, F = 32, B = 128, SGD.

    There are five labels to a training text, but no fewer than 100,000 texts; frequencies follow Zipf's law, so most of
    millions of labels have no text.

    Args:
        label_counts: L of each data set.
        group_sizes: G of each run.
        steps: of each run.
        folder: for data sets and runs, kept; by default a temporary one.
        done: called after each run.

    Raises:
        subprocess.CalledProcessError: a run failed; its messages are on standard error.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="fanin-scale-") as name:
            return measure_scale(label_counts, group_sizes, steps=steps, folder=Path(name), done=done)
    results = []
    for labels in label_counts:
        rows, data = max(_LEAST_ROWS, labels // _LABELS_A_ROW), folder / f"data-{labels}"
        if not data.exists():
            write_synthetic(data, SyntheticTexts(labels), rows, 1)
        for group_size in group_sizes:
            settings = (*_SETTINGS, f"classifier.group_size={group_size}", f"training.steps={steps}")
            figures = _run(data, folder, settings)
            results.append(ScaleRun(labels, group_size, rows, steps, **figures))
            if done is not None:
                done(results[-1])
    return results


def _run(data: Path, folder: Path, settings: Sequence[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as scratch:
        command = [sys.executable, "-c", _CHILD, str(data), scratch, *settings]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own code
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


class _Clock:
    """A display that notes when it is told of progress, by the clock and by the processor's time."""

    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[int, float, float]]] = {}  # texts done, seconds, processor seconds
        self._stage: list[tuple[int, float, float]] = []

    def start(self, what: str, total: int) -> None:  # noqa: ARG002 - the protocol's
        self._stage = self.stages.setdefault(what, [])
        self.advance(0)

    def advance(self, texts: int, note: str = "") -> None:  # noqa: ARG002 - the protocol's
        self._stage.append((texts, time.perf_counter(), time.process_time()))

    def say(self, line: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def train_and_report(data: str, scratch: str, *settings: str) -> None:
    """The child: prepares, trains, and writes its figures to standard output as JSON."""
    from fanin.data.formats import open_dataset
    from fanin.recipes.recipe_files import load_recipe
    from fanin.runs.run_folder import RunFolder
    from fanin.training.preparation import prepare
    from fanin.training.process_memory import peak_bytes
    from fanin.training.trainer import Trainer

    recipe, clock = load_recipe(_RECIPE, settings), _Clock()
    peaks, times = [peak_bytes()], [time.perf_counter()]
    prepared = prepare(open_dataset(Path(data)), recipe, Path(scratch) / "cache", clock)
    peaks.append(peak_bytes())
    times.append(time.perf_counter())
    with RunFolder.create(Path(scratch) / "run", recipe, Path(data), score_test=False) as run:
        before = time.process_time()
        trainer = Trainer(recipe, prepared, run, clock)
        build_cpu = time.process_time() - before
        peaks.append(peak_bytes())
        times.append(time.perf_counter())
        trainer.train()
    peaks.append(peak_bytes())
    steps = [note for what, notes in clock.stages.items() if what.startswith("epoch") for note in notes]
    scoring = clock.stages["scoring validation"]
    texts = sum(note[0] for note in scoring)
    imports, prepared_peak, built, peak = (round(count / 2**30, 4) for count in peaks)
    figures = {
        "imports_gib": imports,
        "prepared_gib": prepared_peak,
        "built_gib": built,
        "peak_gib": peak,
        "prepare_s": times[1] - times[0],
        "build_s": times[2] - times[1],
        "build_cpu_s": build_cpu,
        "step_ms": 1e3 * _median_gap(steps, 1),
        "step_cpu_ms": 1e3 * _median_gap(steps, 2),
        "predicted_per_s": texts / (scoring[-1][1] - scoring[0][1]),
        "predicted_per_cpu_s": texts / (scoring[-1][2] - scoring[0][2]),
    }
    sys.stdout.write(json.dumps(figures))


def _median_gap(notes: Sequence[tuple[int, float, float]], which: int) -> float:
    """The median time between two notes, those of the warm-up left out where there are more."""
    values = [note[which] for note in notes]
    gaps = np.diff(values).tolist()
    return statistics.median(gaps[min(_WARM_UP, len(gaps) - 1) :])
