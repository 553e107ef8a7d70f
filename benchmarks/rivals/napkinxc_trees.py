"""napkinXC's probabilistic label tree, as `linear_trees.py` calls it."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napkinxc.models import PLT

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class LabelTree:
    """One tree by balanced 2-means, with napkinXC's default settings; it is on disk from the start."""

    def __init__(self) -> None:
        self.name = f"PLT (napkinXC {version('napkinxc')})"
        self._folder = Path(tempfile.mkdtemp())
        self._model = PLT(str(self._folder), seed=0)

    def train(self, features: csr_matrix, labels: csr_matrix) -> None:
        """Train on texts (N, V) and their labels (N, L)."""
        self._model.fit(features, labels)

    def save(self, folder: Path) -> None:
        """Move what it has written to a new folder; it is read from there no more."""
        self._model.load()
        shutil.move(self._folder, folder)

    def predict(self, features: csr_matrix, ranks: int) -> np.ndarray:
        """The best labels of every text, (N, ranks) int32, -1 for none."""
        predicted = np.full((features.shape[0], ranks), -1, np.int32)
        for row, found in zip(predicted, self._model.predict(features, top_k=ranks), strict=True):
            row[: len(found)] = found
        return predicted
