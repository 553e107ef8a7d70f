"""What shared cluster vectors could gain: from clusters of learned label vectors, and from a start at centroids.

    python benchmarks/ablation/cluster_vectors.py learned GutenbergLCSH-42K OUT [KEY=VALUE ...]
    python benchmarks/ablation/cluster_vectors.py centroids GutenbergLCSH-42K OUT [KEY=VALUE ...]

Trains the recipe `plain` with the settings given, on rows held out from training. ``learned`` trains twice: the second
time from the start again, with clusters of the label vectors that the first run has learned, which is more than finding
them again once in the middle of a run could give. ``centroids`` starts every cluster's vector from the mean of its
labels' centroids in place of zero. Goes on where it was stopped. Tables: docs/results/ablation.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch

from fanin.classifier.dense import DenseLinear
from fanin.cli.main import run
from fanin.labels.clustering import grouped_labels
from fanin.model_files import load_model
from fanin.training.warm_start import start_from_centroids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fanin.classifier.interface import Classifier
    from fanin.recipes.recipe import Recipe
    from fanin.training.parts import TrainingParts
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay

_GAIN = 6.0  # of the centroids, as classifier.start_gain
_LABELS = 4096  # whose vectors are written out at a time


def label_vectors(classifier: Classifier) -> NDArray[np.float32]:
    """The dense vector (L, D) that each label's score is the product of x with, by label id."""
    parts = classifier.sparse_parts()
    vectors = np.zeros((sum(part.layer.out_features for part in parts), classifier.in_features), np.float32)
    for layer, labels in parts:
        for first in range(0, layer.out_features, _LABELS):
            places = torch.arange(first, min(first + _LABELS, layer.out_features))
            own = torch.zeros(len(places), layer.in_features)
            own.scatter_(1, layer.index[places // layer.group_size].long(), layer.weight[places].detach().float())
            if layer.clusters is not None:
                shared = layer.clusters.weight[places // layer.clusters.cluster_size].detach().float()
                own[:, : shared.shape[1]] += shared
            vectors[labels[places].numpy()] = own.numpy()
    return vectors


def start_shared_vectors(
    _recipe: Recipe, data: PreparedData, parts: TrainingParts, display: ProgressDisplay, _device: torch.device
) -> bool:
    """In place of the recipe's own start: each shared vector is the mean of its labels' centroid rows."""
    for part in parts.classifier.sparse_parts():
        clusters = part.layer.clusters
        assert clusters is not None, "classifier.cluster_size must be set"
        rows = DenseLinear(part.layer.in_features, part.layer.out_features, initial_scale=0.0)
        split = data.store.split("train")
        start_from_centroids([(rows, part.own_labels)], parts.encoder, split, data.train_rows, _GAIN, display)
        assert rows.bias is not None
        assert part.layer.bias is not None
        with torch.no_grad():
            for k in range(len(clusters.weight)):
                members = slice(k * clusters.cluster_size, (k + 1) * clusters.cluster_size)
                clusters.weight[k] = rows.weight[members].mean(0)
                part.layer.bias[members] += rows.bias[members].mean()
    return True


def train(data: str, out: Path, settings: Sequence[str]) -> None:
    """One run of `plain` at the ablation's 390 steps, unless it is there already."""
    if (out / "metrics.json").exists():
        return
    fixed = ["training.validation_share=0.1", "training.steps=390"]
    changes = [part for setting in [*fixed, *settings] for part in ("--set", setting)]
    begin = ["train", data, "--recipe", "plain", "--no-test", "--quiet", "--out", str(out), *changes]
    code = run(["resume", str(out), "--quiet"] if (out / "run.json").exists() else begin)
    if code:
        raise SystemExit(code)


def learned(data: str, out: Path, settings: Sequence[str]) -> None:
    """Train, cluster the label vectors that were learned, and train again with these clusters."""
    train(data, out / "first", settings)
    vectors = label_vectors(load_model(out / "first" / "model").classifier)

    def order(_data: object, _encoder: object, size: int, seed: int, bands: list[NDArray[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([grouped_labels(vectors, band, size, seed) for band in bands]))

    with patch("fanin.training.assemble_classifier.related_order", order):
        train(data, out / "again", settings)


def centroids(data: str, out: Path, settings: Sequence[str]) -> None:
    """Train with shared vectors that start from their labels' centroids."""
    with patch("fanin.training.trainer.start_classifier", start_shared_vectors):
        train(data, out, settings)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("learned", "centroids"):
        print("usage: cluster_vectors.py learned|centroids DATA OUT [KEY=VALUE ...]", file=sys.stderr)
        raise SystemExit(2)
    {"learned": learned, "centroids": centroids}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
