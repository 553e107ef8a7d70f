"""Transformers and features from the command line: train, evaluate, predict, inspect."""

import json

import numpy as np
import pytest

TINY = ("--set", "classifier.fan_in=8", "--set", "training.epochs=8", "--set", "training.batch_size=8", "--quiet")


@pytest.fixture(scope="module")
def dense(drinks, tmp_path_factory):
    """The drinks as features, one a word; without texts."""
    folder = tmp_path_factory.mktemp("dense")
    words = sorted(set((drinks / "trn_X.txt").read_text().split()))
    for prefix in ("trn", "tst"):
        texts = (drinks / f"{prefix}_X.txt").read_text().splitlines()
        np.save(folder / f"{prefix}_X.npy", np.array([[w in text for w in words] for text in texts], np.float32))
        (folder / f"{prefix}_X_Y.txt").write_bytes((drinks / f"{prefix}_X_Y.txt").read_bytes())
    (folder / "Y.txt").write_bytes((drinks / "Y.txt").read_bytes())
    return folder


@pytest.fixture(scope="module")
def run(dense, invoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dense"
    learning = ("--set", "classifier.schedule.learning_rate=0.1", "--set", "encoder.dropout=0")
    outcome = invoke(
        "train", dense, "--recipe", "plain", "--out", folder, "--set", "encoder.kind=features", *learning, *TINY
    )
    assert outcome.code == 0, outcome.err
    return folder


@pytest.mark.parametrize("recipe", ["minilm", "minilm-frozen"])
def test_the_shipped_recipes_run_with_any_transformer(recipe, planted, tiny_transformer, invoke, tmp_path):
    model = (
        "--set",
        f"encoder.model={tiny_transformer}",
        "--set",
        "encoder.max_length=12",
        "--set",
        "training.epochs=2",
        "--set",
        "training.batch_size=32",
    )
    outcome = invoke("train", planted, "--recipe", recipe, "--out", tmp_path / "run", *TINY, *model, "--json")
    assert outcome.code == 0, outcome.err
    trained = json.loads(outcome.out)["test"]
    scored = json.loads(invoke("evaluate", tmp_path / "run", planted, "--json").out)
    assert scored["P@1"] == trained["P@1"] > 0.05
    predicted = json.loads(invoke("predict", tmp_path / "run", "--text", "word1 word2", "--json").out)
    assert len(predicted["predictions"]) == 5
    facts = invoke("inspect", tmp_path / "run")
    assert facts.code == 0
    assert ("frozen" if recipe == "minilm-frozen" else "fine-tuned") in facts.out


def test_features_are_evaluated_and_predicted_from(run, dense, invoke):
    scored = json.loads(invoke("evaluate", run, dense, "--json").out)
    assert scored["P@1"] > 0.9
    outcome = invoke("predict", run, "--file", dense / "tst_X.npy", "--json", "-k", "2")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["row"] for row in rows] == list(range(12))
    assert sum(row["predictions"][0]["label"].startswith("coffee") for row in rows) == 4
    assert invoke("predict", run, "--file", dense / "tst_X.npy").out.startswith("row 0\n")
    assert "features" in invoke("inspect", run).out


@pytest.mark.parametrize("arguments", [("--text", "green"), ("-",)])
def test_a_model_of_features_refuses_texts(arguments, run, invoke):
    outcome = invoke("predict", run, *arguments, stdin=b"green\n")
    assert outcome.code == 2
    assert "--file" in outcome.err


def test_a_model_of_features_refuses_other_files(run, dense, drinks, invoke, tmp_path):
    np.save(tmp_path / "x.npy", np.full((1, 9), np.nan, np.float32))
    for path in (tmp_path / "x.npy", drinks / "tst_X.txt", tmp_path / "missing.npy"):
        outcome = invoke("predict", run, "--file", path)
        assert outcome.code == 2
        assert path.name in outcome.err
    assert invoke("evaluate", run, drinks).code == 2


def test_a_transformer_that_is_not_there(planted, invoke, tmp_path):
    pytest.importorskip("transformers")
    model = ("--set", f"encoder.model={tmp_path / 'missing'}")
    outcome = invoke("train", planted, "--recipe", "minilm", "--out", tmp_path / "run", *model)
    assert outcome.code == 2
    assert "encoder.model" in outcome.err
    assert not (tmp_path / "run").exists()
