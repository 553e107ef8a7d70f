"""``fanin results``."""

import json
import shutil

import pytest


def test_one_row_a_run(trained, tmp_path, invoke):
    shutil.copytree(trained, tmp_path / "[b]twin")
    outcome = invoke("results", trained, tmp_path / "[b]twin")
    assert outcome.code == 0
    header, _, first, second = outcome.out.splitlines()[:4]
    assert header.split()[:7] == ["run", "P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5"]
    assert first.split()[0] == str(trained)
    assert second.split()[0] == str(tmp_path / "[b]twin")
    assert first.split()[1:] == second.split()[1:]
    assert first.split()[1:3] == ["100.00", "33.33"]
    rows = json.loads(invoke("results", trained, tmp_path / "[b]twin", "--json").out)
    assert rows[0] | {"run": ""} == rows[1] | {"run": ""}
    assert (rows[0]["split"], rows[0]["P@1"]) == ("test", 1)


def test_validation_where_a_run_has_no_test_scores(trained, tmp_path, invoke):
    shutil.copytree(trained, tmp_path / "run")
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    del metrics["test"]
    del metrics["validation"]["P@3"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    rows = json.loads(invoke("results", trained, tmp_path / "run", "--json").out)
    assert [row["split"] for row in rows] == ["validation"] * 2
    assert rows[1]["P@3"] is None
    assert " - " in invoke("results", tmp_path / "run").out


@pytest.mark.parametrize("content", [None, "{", "[]", '{"validation": 3}', '{"validation": {"P@1": []}}', "\x00"])
def test_folders_that_hold_no_results(content, tmp_path, invoke):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content, encoding="utf-8")
    outcome = invoke("results", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert str(tmp_path) in outcome.err
