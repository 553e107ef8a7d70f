"""Scores rivals' predictions and fanin's runs by the same metrics and propensities. Runs in fanin's environment.

    python score.py DATA [--rival FOLDER ...] [--run RUN ...]

A rival's folder is what `linear_trees.py` has written. A run's model predicts the test texts here: its own test scores
have propensities of the rows that it was trained on, those here are of the whole training split, for everybody.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.cli.output import write_json, write_table
from fanin.data.formats import open_dataset
from fanin.evaluation.metrics import MetricAccumulator
from fanin.labels.propensity import inverse_propensities
from fanin.model_files import load_model
from fanin.report.finished_runs import read_metrics
from fanin.runs.run_folder import model_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset

RANKS = 5
_SHOWN = ("P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "nDCG@5", "R@5", "coverage@5")
_WARM_UP = 64


def main() -> None:
    """Score everything that was named, and print it side by side."""
    parser = argparse.ArgumentParser(description="Scores of rivals and of fanin's runs on one test split.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rival", type=Path, action="append", default=[], help="a folder of linear_trees.py")
    parser.add_argument("--run", type=Path, action="append", default=[], help="a run folder of fanin train")
    parser.add_argument("--propensity", type=float, nargs=2, default=(0.55, 1.5), metavar=("A", "B"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    found = []
    for figures, predicted in [
        *(read_rival(folder) for folder in arguments.rival),
        *(predict(run, dataset) for run in arguments.run),
    ]:
        found.append({**figures, **score(dataset, predicted, *arguments.propensity)})
    if arguments.json:
        write_json(found)
        return
    write_table(["%", *_SHOWN], [[row["name"], *(f"{100 * row[name]:.2f}" for name in _SHOWN)] for row in found])
    header = ["", "training s", "model MB", "peak memory MiB", "predicted texts/s"]
    write_table(header, [cost_cells(row) for row in found])


def read_rival(folder: Path) -> tuple[dict[str, Any], NDArray[np.int32]]:
    """Figures and predictions of a rival."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return figures, np.load(folder / "predictions.npy", allow_pickle=False)


def predict(run: Path, dataset: Dataset) -> tuple[dict[str, Any], NDArray[np.int32]]:
    """Figures of a run, and the labels that its model predicts from the test texts, (N, RANKS) by the data's ids."""
    metrics = read_metrics(run)
    model = load_model(model_folder(run))
    texts = list(dataset.texts("test"))
    model.predict(texts[:_WARM_UP], RANKS)
    started = time.perf_counter()
    ranked = model.predict(texts, RANKS)
    seconds = time.perf_counter() - started
    figures = {
        "name": f"fanin, {run.name}",
        "train_seconds": metrics["train_seconds"],
        "texts_per_second": len(texts) / seconds,
        "model_bytes": metrics["model_bytes"],
        "peak_bytes": metrics["peak_bytes"],
    }
    names = [best.label for row in ranked for best in row]
    return figures, dataset.vocabulary.ids(names).reshape(len(texts), -1)


def score(dataset: Dataset, predicted: NDArray[np.int32], a: float, b: float) -> dict[str, Any]:
    """All metrics of predictions for the test texts; propensities by the whole training split."""
    train, test = dataset.positives("train"), dataset.positives("test")
    counts = np.bincount(train.indices, minlength=train.columns)  # (L,)
    accumulator = MetricAccumulator(counts, inverse_propensities(counts, len(train), a, b))
    accumulator.update(predicted, test.indptr, test.indices)
    return accumulator.result().as_dict()


def cost_cells(row: dict[str, Any]) -> Sequence[str]:
    """A row of the second table."""
    peak = row["peak_bytes"]
    return [
        row["name"],
        f"{row['train_seconds']:,.0f}",
        f"{row['model_bytes'] / 1e6:,.1f}",
        "-" if peak is None else f"{peak / 2**20:,.0f}",
        f"{row['texts_per_second']:,.0f}",
    ]


if __name__ == "__main__":
    main()
