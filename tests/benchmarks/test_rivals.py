"""The scripts of benchmarks/rivals, as far as they run without the rivals."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fanin.data.formats import open_dataset

RIVALS = Path(__file__).parents[2] / "benchmarks" / "rivals"


def load(name):
    spec = importlib.util.spec_from_file_location(name, RIVALS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def linear_trees(monkeypatch):
    """The rivals' script with empty modules in the place of what is installed in their environment alone."""
    for name in ("sklearn", "sklearn.feature_extraction", "sklearn.feature_extraction.text"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sklearn.feature_extraction.text"].TfidfVectorizer = None
    return load("linear_trees")


@pytest.fixture
def omikuji_trees(monkeypatch):
    monkeypatch.setitem(sys.modules, "omikuji", ModuleType("omikuji"))
    sys.modules["omikuji"].__version__ = "0"
    return load("omikuji_trees")


def test_a_run_is_scored_as_its_own_training_scored_it(planted, tiny_recipe, train):
    score = load("score")
    result, run = train(planted, tiny_recipe("plain", "training.epochs=3"))
    dataset = open_dataset(planted)
    figures, predicted = score.predict(run.path, dataset)
    assert predicted.shape == (120, 5)
    scores = score.score(dataset, predicted, 0.55, 1.5)
    assert scores["points"] == 120
    for name in ("P@1", "P@5", "nDCG@3", "R@5", "coverage@5"):
        assert scores[name] == pytest.approx(result.metrics["test"][name])
    # Propensities here are of all training rows, there of those that were not held out.
    assert scores["PSP@1"] == pytest.approx(result.metrics["test"]["PSP@1"], rel=0.05)
    assert figures["model_bytes"] == result.metrics["model_bytes"]


def test_both_tables_have_a_row_for_everybody(planted, tiny_recipe, train, tmp_path, monkeypatch, capsys):
    _, run = train(planted, tiny_recipe("plain", "training.epochs=1"))
    np.save(tmp_path / "predictions.npy", np.tile(np.array([0, 1, 2, 3, -1], np.int32), (120, 1)))
    figures = {"name": "Rival", "train_seconds": 3.2, "texts_per_second": 1e4, "model_bytes": 2e6, "peak_bytes": None}
    (tmp_path / "figures.json").write_text(json.dumps(figures), encoding="utf-8")
    arguments = ["score.py", str(planted), "--rival", str(tmp_path), "--run", str(run.path)]
    monkeypatch.setattr(sys, "argv", arguments)
    load("score").main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("Rival", "fanin,"))] == ["Rival", "fanin,"] * 2
    assert [line for line in lines if line.startswith("Rival")][1].split() == ["Rival", "3", "2.0", "-", "10,000"]


def test_labels_are_read_as_they_stand_in_the_file(linear_trees, tmp_path):
    (tmp_path / "trn_X_Y.txt").write_bytes(b"\xef\xbb\xbf3 9\r\n5:1.0 8:0 2:1\r\n\r\n7 7\n")
    labels = linear_trees.read_labels(tmp_path / "trn_X_Y.txt")
    assert labels.toarray().tolist() == [[0, 0, 1, 0, 0, 1, 0, 0, 0], [0] * 9, [0] * 7 + [1, 0]]
    assert list(linear_trees.read_lines(tmp_path / "trn_X_Y.txt")) == ["3 9", "5:1.0 8:0 2:1", "", "7 7"]


def test_the_training_file_of_omikuji(omikuji_trees, tmp_path):
    features = csr_matrix(np.array([[0, 0.25, 0, 0.5], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    labels = csr_matrix((np.ones(3, np.float32), [2, 5, 7], [0, 2, 2, 3]), shape=(3, 9))
    omikuji_trees.write_training_file(tmp_path / "train.txt", features, labels)
    assert (tmp_path / "train.txt").read_text(encoding="ascii").splitlines() == [
        "3 4 9",
        "2,5 1:0.25 3:0.5",
        " 0:1",
        "7",
    ]


class PairsAsLabels:
    """Omikuji's binding for one text: the features come back as labels."""

    @staticmethod
    def default_hyper_param():
        return ModuleType("settings")

    @staticmethod
    def train_on_data(path, settings):
        assert Path(path).read_text(encoding="ascii") == "1 1 1\n0 0:1\n"
        assert settings.max_depth == 3
        return PairsAsLabels()

    def predict(self, pairs, top_k):
        return pairs[:top_k]


def test_predictions_are_padded(omikuji_trees):
    omikuji_trees.omikuji.Model = PairsAsLabels
    trees = omikuji_trees.OmikujiTrees("bonsai")
    one = csr_matrix(np.ones((1, 1), np.float32))
    trees.train(one, one)
    features = csr_matrix(np.array([[0, 0.25, 0, 0.5], [0, 0, 0, 0]], np.float32))
    assert trees.predict(features, 3).tolist() == [[1, 3, -1], [-1] * 3]
