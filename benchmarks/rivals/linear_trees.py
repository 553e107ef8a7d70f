"""A linear label tree on TF-IDF unigrams of a raw-text folder. Runs in the rivals' environment, without fanin.

    python linear_trees.py DATA parabel|bonsai|xr-linear|plt OUT

writes OUT/predictions.npy, (N, K) int32, the K best labels of each test text, best first, -1 for none; OUT/model, the
trees, the vocabulary and its weights; and OUT/figures.json, what it all took. `score.py` reads the first and the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

if TYPE_CHECKING:
    from collections.abc import Iterator

RANKS = 5
KINDS = ("parabel", "bonsai", "xr-linear", "plt")


class Rival(Protocol):
    """A rival's way to train on rows of features and labels, to be saved, and to predict."""

    name: str

    def train(self, features: csr_matrix, labels: csr_matrix) -> None:
        """Train on texts (N, V) and their labels (N, L)."""

    def save(self, folder: Path) -> None:
        """Write the model into a folder that does not exist yet."""

    def predict(self, features: csr_matrix, ranks: int) -> np.ndarray:
        """The best labels of every text, (N, ranks) int32, -1 for none."""


def rival(kind: str) -> Rival:
    """The rival of that name; only its own package is imported."""
    if kind == "xr-linear":
        from pecos_trees import XRLinear

        return XRLinear()
    if kind == "plt":
        from napkinxc_trees import LabelTree

        return LabelTree()
    from omikuji_trees import OmikujiTrees

    return OmikujiTrees(kind)


def main() -> None:
    """Train, save, predict, and write down what it took."""
    parser = argparse.ArgumentParser(description="A linear label tree on TF-IDF unigrams of a raw-text folder.")
    parser.add_argument("data", type=Path, help="a folder with trn_X.txt, trn_X_Y.txt and tst_X.txt")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path, help="a folder to write to; must not exist")
    arguments = parser.parse_args()
    if (arguments.data / "filter_labels_test.txt").exists():
        sys.exit(f"{arguments.data}: has pairs to be left out of predictions, which these rivals cannot do")
    arguments.out.mkdir(parents=True)

    chosen = rival(arguments.kind)
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    features = vectorizer.fit_transform(read_lines(arguments.data / "trn_X.txt"))
    labels = read_labels(arguments.data / "trn_X_Y.txt")
    vectorized = time.perf_counter()
    chosen.train(features, labels)
    trained = time.perf_counter()

    model = arguments.out / "model"
    model.mkdir()
    chosen.save(model / "trees")
    save_words(model, vectorizer)
    texts = list(read_lines(arguments.data / "tst_X.txt"))
    before = time.perf_counter()
    predicted = chosen.predict(vectorizer.transform(texts), RANKS)
    seconds = time.perf_counter() - before
    np.save(arguments.out / "predictions.npy", predicted)
    figures = {
        "name": chosen.name,
        "features": features.shape[1],
        "feature_seconds": vectorized - started,
        "train_seconds": trained - started,
        "texts_per_second": len(texts) / seconds,
        "tree_bytes": folder_bytes(model / "trees"),
        "model_bytes": folder_bytes(model),
        "peak_bytes": peak_bytes(),
    }
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file; they end with a line feed only, as the format of the folder says."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n").removesuffix("\r")


def read_labels(path: Path) -> csr_matrix:
    """The relevant labels of every text, (N, L) float32: a header, then "label:1 label:1" for each text."""
    lines = read_lines(path)
    columns = int(next(lines).split()[1])
    indices: list[int] = []
    indptr = [0]
    for line in lines:
        pairs = (token.partition(":") for token in line.split())
        indices += sorted({int(label) for label, _, value in pairs if not value or float(value)})
        indptr.append(len(indices))
    return csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=(len(indptr) - 1, columns))


def save_words(folder: Path, vectorizer: TfidfVectorizer) -> None:
    """The words and their weights, which a prediction from a text needs beside the trees."""
    words = "".join(f"{word}\n" for word in vectorizer.get_feature_names_out())
    (folder / "words.txt").write_text(words, encoding="utf-8")
    np.save(folder / "weights.npy", vectorizer.idf_.astype(np.float32))


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_bytes() -> int | None:
    """Largest resident memory of this process so far, where Linux tells it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    main()
