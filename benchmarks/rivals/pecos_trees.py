"""PECOS' XR-Linear, as `linear_trees.py` calls it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel

if TYPE_CHECKING:
    from pathlib import Path

    from scipy.sparse import csr_matrix


class XRLinear:
    """One tree over labels that lie by the texts they have (PIFA), with PECOS' default settings."""

    def __init__(self) -> None:
        self.name = f"XR-Linear (PECOS {version('libpecos')})"
        self._model: Any = None

    def train(self, features: csr_matrix, labels: csr_matrix) -> None:
        """Train on texts (N, V) and their labels (N, L)."""
        tree = Indexer.gen(LabelEmbeddingFactory.create(labels, features, method="pifa"))
        self._model = XLinearModel.train(features, labels.tocsc(), C=tree)

    def save(self, folder: Path) -> None:
        """Write the tree into a new folder, and read it in the form that predicts faster."""
        self._model.save(str(folder))
        self._model = XLinearModel.load(str(folder), is_predict_only=True)

    def predict(self, features: csr_matrix, ranks: int) -> np.ndarray:
        """The best labels of every text, (N, ranks) int32, -1 for none."""
        found = self._model.predict(features, only_topk=ranks)  # (N, L), sparse
        predicted = np.full((features.shape[0], ranks), -1, np.int32)
        for i in range(len(predicted)):
            own = slice(found.indptr[i], found.indptr[i + 1])
            best = np.argsort(-found.data[own], kind="stable")
            predicted[i, : len(best)] = found.indices[own][best]
        return predicted
