"""Omikuji's Parabel or Bonsai on TF-IDF unigrams of a raw-text folder. Runs in the rivals' environment, without fanin.

    python linear_trees.py DATA parabel|bonsai OUT

writes OUT/predictions.npy, (N, K) int32, the K best labels of each test text, best first, -1 for none; OUT/model, the
trees, the vocabulary and its weights; and OUT/figures.json, what it all took. `score.py` reads the first and the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import omikuji
from sklearn.feature_extraction.text import TfidfVectorizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scipy.sparse import csr_matrix

RANKS = 5
# Changes of Omikuji's default settings, after the tables of its own README.
SETTINGS: dict[str, dict[str, Any]] = {
    "parabel": {},  # balanced 2-means, at most 100 labels a leaf, 3 trees
    "bonsai": {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3},
}


def main() -> None:
    """Train, save, predict, and write down what it took."""
    parser = argparse.ArgumentParser(description="Omikuji on TF-IDF unigrams of a raw-text folder.")
    parser.add_argument("data", type=Path, help="a folder with trn_X.txt, trn_X_Y.txt and tst_X.txt")
    parser.add_argument("kind", choices=SETTINGS)
    parser.add_argument("out", type=Path, help="a folder to write to; must not exist")
    arguments = parser.parse_args()
    if (arguments.data / "filter_labels_test.txt").exists():
        sys.exit(f"{arguments.data}: has pairs to be left out of predictions, which these rivals cannot do")
    arguments.out.mkdir(parents=True)

    started = time.perf_counter()
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    features = vectorizer.fit_transform(read_lines(arguments.data / "trn_X.txt"))
    train_file = arguments.out / "train.txt"
    write_training_file(train_file, features, arguments.data / "trn_X_Y.txt")
    vectorized = time.perf_counter()

    settings = omikuji.Model.default_hyper_param()
    for name, value in SETTINGS[arguments.kind].items():
        setattr(settings, name, value)
    model = omikuji.Model.train_on_data(str(train_file), settings)
    trained = time.perf_counter()
    train_file.unlink()

    save(arguments.out / "model", model, vectorizer)
    texts = list(read_lines(arguments.data / "tst_X.txt"))
    before = time.perf_counter()
    predicted = predict(model, vectorizer.transform(texts))
    seconds = time.perf_counter() - before
    np.save(arguments.out / "predictions.npy", predicted)
    figures = {
        "name": f"{arguments.kind.capitalize()} (Omikuji {omikuji.__version__})",
        "features": features.shape[1],
        "feature_seconds": vectorized - started,
        "train_seconds": trained - started,
        "texts_per_second": len(texts) / seconds,
        "tree_bytes": folder_bytes(arguments.out / "model" / "trees"),
        "model_bytes": folder_bytes(arguments.out / "model"),
        "peak_bytes": peak_bytes(),
    }
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file; they end with a line feed only, as the format of the folder says."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n").removesuffix("\r")


def write_training_file(path: Path, features: csr_matrix, labels: Path) -> None:
    """The file that Omikuji reads: a header, then "label,label feature:value feature:value" for each text."""
    rows = read_lines(labels)
    columns = next(rows).split()[1]
    with path.open("w", encoding="ascii") as file:
        file.write(f"{features.shape[0]} {features.shape[1]} {columns}\n")
        for i, row in enumerate(rows):
            pairs = (token.partition(":") for token in row.split())
            relevant = [label for label, _, value in pairs if not value or float(value)]
            own = slice(features.indptr[i], features.indptr[i + 1])
            of_row = sorted(zip(features.indices[own], features.data[own], strict=True))
            values = [f"{feature}:{value:.6g}" for feature, value in of_row]
            file.write(" ".join([",".join(relevant), *values]) + "\n")


def predict(model: omikuji.Model, features: csr_matrix) -> np.ndarray:
    """The best labels of every text, (N, RANKS) int32; the binding takes one text a call."""
    predicted = np.full((features.shape[0], RANKS), -1, np.int32)
    for i in range(len(predicted)):
        own = slice(features.indptr[i], features.indptr[i + 1])
        pairs = list(zip(features.indices[own].tolist(), features.data[own].tolist(), strict=True))
        labels = [label for label, _ in model.predict(pairs, top_k=RANKS)]
        predicted[i, : len(labels)] = labels
    return predicted


def save(folder: Path, model: omikuji.Model, vectorizer: TfidfVectorizer) -> None:
    """What a prediction from a text needs: the trees, the words and their weights."""
    folder.mkdir()
    model.save(str(folder / "trees"))
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
