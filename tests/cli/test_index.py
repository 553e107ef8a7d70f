"""``fanin index``, and predicting with the beam that it makes."""

import json
import shutil

import pytest

from full_disk import full_disk


@pytest.fixture(scope="module")
def indexed(trained, drinks, tmp_path_factory, invoke):
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "indexed")
    outcome = invoke("index", folder, drinks, "-k", "2", "--quiet", "--json")
    assert outcome.code == 0, outcome.err
    return folder, json.loads(outcome.out)


def test_recall_and_speed_are_reported(indexed):
    folder, facts = indexed
    assert facts["measured"][0]["recall"] == facts["measured"][0]["ratio"] == 1
    kept = next(row for row in facts["measured"] if row["width"] == facts["width"])
    assert kept["recall"] >= 0.95
    assert (facts["texts"], facts["held_out"]) == (48, 12)
    assert facts["bytes"] == sum((folder / "model" / f"beam.{end}").stat().st_size for end in ("json", "safetensors"))


def test_on_a_full_disk_the_beam_before_is_kept(indexed, drinks, tmp_path, invoke):
    folder = shutil.copytree(indexed[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with full_disk(100):
        outcome = invoke("index", folder, drinks, "-k", "2", "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {folder / 'model'}: the beam could not be saved" in outcome.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_predictions_with_a_beam(indexed, invoke):
    folder, facts = indexed
    texts = ("--text", "green leaves", "--text", "milk chocolate", "--json", "-k", "1")
    exact = invoke("predict", folder, *texts).out
    assert invoke("predict", folder, *texts, "--beam", "exact").out == exact
    assert invoke("predict", folder, *texts, "--beam", "kept").out == exact
    assert invoke("predict", folder, *texts, "--beam", facts["clusters"]).out == exact


def test_bench_measures_the_kept_beam_too(indexed, drinks, invoke):
    folder, facts = indexed
    outcome = invoke("bench", "prediction", folder, drinks, "--json")
    assert outcome.code == 0, outcome.err
    assert [row["beam"] for row in json.loads(outcome.out)] == [None, facts["width"]]


def test_a_table_for_people(trained, drinks, tmp_path, invoke):
    folder = shutil.copytree(trained, tmp_path / "run")
    outcome = invoke("index", folder, drinks, "--quiet", "--texts", "9", "--held-out", "5", "-k", "1")
    assert outcome.code == 0, outcome.err
    assert "(kept)" in outcome.out
    assert "measured on   5 texts" in outcome.out


def test_without_other_splits_training_texts_are_held_out(trained, drinks, tmp_path, invoke):
    folder, data = shutil.copytree(trained, tmp_path / "run"), tmp_path / "train.jsonl"
    texts = (drinks / "trn_X.txt").read_text(encoding="utf-8").splitlines()
    data.write_text("".join(json.dumps({"text": text, "labels": ["cocoa"]}) + "\n" for text in texts))
    outcome = invoke("index", folder, data, "--quiet", "--json", "--held-out", "1000")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert (facts["texts"], facts["held_out"]) == (24, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--beam", "0"), "--beam 0 is not known"),
        (("--beam", "wide"), "--beam wide is not known"),
        (("--beam", "kept"), "this model has no beam"),
        (("--beam", "3"), "this model has no beam"),
    ],
)
def test_mistakes_of_predict(trained, invoke, arguments, message):
    outcome = invoke("predict", trained, "--text", "tea", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_mistakes_of_index(trained, drinks, tmp_path, invoke):
    for arguments, message in (
        ((trained, drinks, "--recall", "1.5"), "recall=1.5"),
        ((tmp_path, drinks), "holds no model"),
        ((trained, tmp_path / "none"), "none"),
    ):
        outcome = invoke("index", *arguments, "--quiet")
        assert outcome.code == 2
        assert message in outcome.err
    assert not (trained / "model" / "beam.json").exists()
