"""A small planted data set, whose texts' words decide their labels, and runs on it."""

from pathlib import Path

import numpy as np
import pytest

from fanin.data.formats import open_dataset
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.trainer import Trainer

TINY = (
    "tokenizer.min_count=1",
    "encoder.out_features=32",
    "encoder.embedding_dim=32",
    "encoder.block_width=32",
    "encoder.dropout=0.0",
    "encoder.token_dropout=0.0",
    "encoder.table.learning_rate=0.05",
    "classifier.schedule.learning_rate=0.05",
    "training.batch_size=32",
    "training.validation_share=0.05",
    "training.epochs=12",
    "training.log_every=5",
)
TINY_SPARSE = ("classifier.fan_in=16", "classifier.rewiring.interval=10")


def _write_planted(folder: Path, *, rows: int = 600, labels: int = 40, seed: int = 0) -> Path:
    """A raw-text folder: a text holds the words of its two labels and two noise words; the last label is never seen."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("trn", rows), ("tst", rows // 5)):
        texts, lines = [], [f"{n} {labels}"]
        for _ in range(n):
            relevant = np.sort(rng.choice(labels - 1, size=2, replace=False))
            words = [f"word{label}" for label in relevant] + [f"noise{i}" for i in rng.integers(0, 50, 2)]
            texts.append(" ".join(rng.permutation(words)))
            lines.append(" ".join(f"{label}:1.0" for label in relevant))
        (folder / f"{split}_X.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        (folder / f"{split}_X_Y.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "Y.txt").write_text("".join(f"label [{i}]\n" for i in range(labels)), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def write_planted():
    return _write_planted


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Path:
    return _write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def tiny_recipe():
    """A recipe for data of some hundred texts: ``tiny_recipe("plain", "training.epochs=1")``."""

    def load(name="plain", *settings):
        sparse = TINY_SPARSE if name == "plain" else ()
        return load_recipe(name, [*TINY, *sparse, *settings])

    return load


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Train a recipe on a data set in a new run folder: ``result, run = train(folder, recipe)``."""

    def run(folder, recipe, cache=None):
        with RunFolder.create(tmp_path_factory.mktemp("run") / "run", recipe, folder) as run:
            data = prepare(open_dataset(folder), recipe, cache or tmp_path_factory.mktemp("cache"))
            return Trainer(recipe, data, run, Silent()).train(), run

    return run
