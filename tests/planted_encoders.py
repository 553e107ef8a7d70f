"""The planted data set for other encoders than the bag: recipes, and its words as features."""

import numpy as np
import pytest

from fanin.recipes.recipe_files import load_recipe

COMMON = (
    "classifier.fan_in=16",
    "classifier.rewiring.interval=10",
    "classifier.schedule.learning_rate=0.05",
    "training.batch_size=32",
    "training.validation_share=0.05",
)


@pytest.fixture(scope="session")
def transformer_recipe(tiny_transformer):
    """A recipe that fine-tunes the tiny transformer: ``transformer_recipe("training.epochs=1")``."""

    def load(*settings):
        chosen = (f"encoder.model={tiny_transformer}", "encoder.max_length=12", "encoder.dropout=0.0")
        return load_recipe("minilm", [*COMMON, *chosen, *settings])

    return load


@pytest.fixture(scope="session")
def features(planted, tmp_path_factory):
    """The planted data as features: how often each of the 90 words stands in a text."""

    def write(kind):
        folder = tmp_path_factory.mktemp(kind)
        for name in ("Y.txt", "trn_X_Y.txt", "tst_X_Y.txt"):
            (folder / name).write_bytes((planted / name).read_bytes())
        for prefix in ("trn", "tst"):
            rows = [_counted(text) for text in (planted / f"{prefix}_X.txt").read_text().splitlines()]
            if kind == "dense":
                np.save(folder / f"{prefix}_X.npy", np.array(rows, np.float32))
            else:
                lines = [" ".join(f"{j}:{v}" for j, v in enumerate(row) if v) for row in rows]
                (folder / f"{prefix}_X_Xf.txt").write_text("\n".join([f"{len(rows)} 90", *lines, ""]))
        return folder

    return {kind: write(kind) for kind in ("dense", "sparse")}


def _counted(text):
    row = [0] * 90
    for word in text.split():
        row[int(word[4:]) if word.startswith("word") else 40 + int(word[5:])] += 1
    return row


@pytest.fixture(scope="session")
def feature_recipe():
    """A recipe for features: ``feature_recipe("classifier.fan_in=90")``."""

    def load(*settings):
        rates = "optimizer: {learning_rate: 0.02}, table: {learning_rate: 0.05}"
        chosen = f"encoder={{kind: features, dropout: 0.0, {rates}}}"
        return load_recipe("plain", [*COMMON, chosen, "training.epochs=8", *settings])

    return load
