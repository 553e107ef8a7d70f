"""``fanin bench``."""

import json


def test_prediction(trained, drinks, invoke):
    outcome = invoke("bench", "prediction", trained, drinks, "-k", "2", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = json.loads(outcome.out)
    assert (row["texts"], row["k"]) == (12, 2)
    table = invoke("bench", "prediction", trained, drinks)
    assert table.code == 0
    header, _, figures = table.out.splitlines()[:3]
    assert header.split()[:2] == ["texts", "k"]
    assert figures.split()[:2] == ["12", "5"]


def test_without_a_model(tmp_path, drinks, invoke):
    outcome = invoke("bench", "prediction", tmp_path, drinks)
    assert outcome.code == 2
    assert "holds no model" in outcome.err
