"""Omikuji's Parabel and Bonsai, as `linear_trees.py` calls them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import omikuji

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Changes of Omikuji's default settings, after the tables of its own README.
SETTINGS: dict[str, dict[str, Any]] = {
    "parabel": {},  # balanced 2-means, at most 100 labels a leaf, 3 trees
    "bonsai": {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3},
}


class OmikujiTrees:
    """One of the two.

    Args:
        kind: a key of ``SETTINGS``.
    """

    def __init__(self, kind: str) -> None:
        self.name = f"{kind.capitalize()} (Omikuji {omikuji.__version__})"
        self._settings = omikuji.Model.default_hyper_param()
        for name, value in SETTINGS[kind].items():
            setattr(self._settings, name, value)
        self._model: Any = None

    def train(self, features: csr_matrix, labels: csr_matrix) -> None:
        """Train on texts (N, V) and their labels (N, L); Omikuji reads both from a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.txt"
            write_training_file(path, features, labels)
            self._model = omikuji.Model.train_on_data(str(path), self._settings)

    def save(self, folder: Path) -> None:
        """Write the trees into a new folder."""
        self._model.save(str(folder))

    def predict(self, features: csr_matrix, ranks: int) -> np.ndarray:
        """The best labels of every text, (N, ranks) int32, -1 for none; the binding takes one text a call."""
        predicted = np.full((features.shape[0], ranks), -1, np.int32)
        for i in range(len(predicted)):
            own = slice(features.indptr[i], features.indptr[i + 1])
            pairs = list(zip(features.indices[own].tolist(), features.data[own].tolist(), strict=True))
            found = [label for label, _ in self._model.predict(pairs, top_k=ranks)]
            predicted[i, : len(found)] = found
        return predicted


def write_training_file(path: Path, features: csr_matrix, labels: csr_matrix) -> None:
    """The file that Omikuji reads: a header, then "label,label feature:value feature:value" for each text."""
    with path.open("w", encoding="ascii") as file:
        file.write(f"{features.shape[0]} {features.shape[1]} {labels.shape[1]}\n")
        for i in range(features.shape[0]):
            relevant = labels.indices[labels.indptr[i] : labels.indptr[i + 1]]
            own = slice(features.indptr[i], features.indptr[i + 1])
            of_row = sorted(zip(features.indices[own], features.data[own], strict=True))
            values = [f"{feature}:{value:.6g}" for feature, value in of_row]
            file.write(" ".join([",".join(map(str, relevant)), *values]) + "\n")
