"""``fanin train``."""

import json
import os
import signal

import pytest

from fanin.cli import train as command
from fanin.training.trainer import Trainer


def test_one_table_and_the_run_folder(drinks, tiny, tmp_path, invoke):
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny)
    assert outcome.code == 0
    rows = {line.split("  ")[0].strip(): line.split()[-3:] for line in outcome.out.splitlines()}
    assert rows["P"] == ["100.00", "33.33", "20.00"]
    assert rows["PSP"] == rows["coverage"] == rows["nDCG"] == ["100.00"] * 3
    groups = [[float(value) for value in rows[f"P of {name} labels"]] for name in ("head", "middle", "tail")]
    assert [sum(column) for column in zip(*groups, strict=True)] == pytest.approx([100, 33.33, 20], abs=0.02)
    for figure in ("classifier", "model", "peak memory", "training"):
        assert figure in rows
    assert outcome.out.endswith(f"run folder: {tmp_path / 'run'}\n")
    assert "epoch 1" in outcome.err
    assert "epoch" not in outcome.out
    files = {"run.json", "recipe.yaml", "log.jsonl", "metrics.json", "model"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files


def test_json_is_one_document_and_quiet_is_quiet(drinks, tiny, tmp_path, invoke):
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert document["run"] == str(tmp_path / "run")
    assert document["test"]["P@1"] == 1
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert {key: document[key] for key in stored} == stored


def test_a_recipe_file_and_settings(drinks, tiny, tmp_path, invoke):
    (tmp_path / "mine.yaml").write_text("extends: dense\ntraining: {seed: 5}\n", encoding="utf-8")
    settings = [setting for setting in tiny[1::2] if "fan_in" not in setting]  # of which a dense layer has none
    options = [option for setting in settings for option in ("--set", setting)]
    outcome = invoke("train", drinks, "--recipe", tmp_path / "mine.yaml", "--out", tmp_path / "run", *options)
    assert outcome.code == 0, outcome.err
    recipe = (tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8")
    assert "kind: dense" in recipe
    assert "seed: 5" in recipe


def test_without_a_test_split_validation_is_shown(tiny, tmp_path, invoke):
    lines = [json.dumps({"text": f"tea {i}", "labels": ["tea"]}) for i in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    outcome = invoke("train", tmp_path / "train.jsonl", "--out", tmp_path / "run", *tiny)
    assert outcome.code == 0, outcome.err
    assert "1 validation texts" in outcome.out


def test_the_test_split_is_left_alone_on_request(drinks, tiny, tmp_path, invoke):
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny, "--no-test")
    assert outcome.code == 0, outcome.err
    assert "validation texts" in outcome.out
    assert "test texts" not in outcome.out
    assert "test" not in json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))


def test_what_ctrl_c_keeps_is_said(drinks, tiny, tmp_path, invoke, monkeypatch):
    whole_epoch, epochs = Trainer._train_epoch, []

    def broken_off(self):
        whole_epoch(self)
        epochs.append(1)
        if len(epochs) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_epoch", broken_off)
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny)
    assert (outcome.code, outcome.out) == (130, "")
    assert "stopped after step 12, which is saved" in outcome.err
    assert f"fanin resume {tmp_path / 'run'}" in outcome.err
    assert f"best model so far is kept in {tmp_path / 'run' / 'model'}" in outcome.err
    assert invoke("predict", tmp_path / "run", "--text", "milk").code == 0


def test_stopped_before_there_is_anything_to_keep(drinks, tiny, tmp_path, invoke, monkeypatch):
    def broken_off(*_args):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_begin", broken_off)
        outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny)
    assert outcome.code == 143
    assert "stopped before its first step; go on with: fanin resume" in outcome.err
    outcome = invoke("resume", tmp_path / "run")
    assert outcome.code == 0
    assert "starting from the first step" in outcome.err
    monkeypatch.setattr("fanin.training.preparation.prepare", broken_off)
    outcome = invoke("train", drinks, "--out", tmp_path / "other", *tiny)
    assert outcome.code == 143
    assert "nothing was written" in outcome.err
    assert not (tmp_path / "other").exists()


def test_a_folder_that_the_user_made_stays(drinks, write_drinks, tiny, tmp_path, invoke, monkeypatch):
    faulty = write_drinks(tmp_path / "faulty")
    (faulty / "Y.txt").write_text("a\nb\n\nc\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for out in (".", tmp_path / "run"):
        outcome = invoke("train", faulty, "--out", out, *tiny)
        assert (outcome.code, outcome.out) == (2, "")
        assert "Y.txt, line 3" in outcome.err
        assert list((tmp_path / "run").iterdir()) == []

    def broken_off(*_args):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("fanin.training.preparation.prepare", broken_off)
    assert "nothing was written" in invoke("train", drinks, "--out", ".", *tiny).err


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ("assemble.BagEncoder", "encoder.embedding_dim"),
        ("assemble_classifier.SparseLinear", "classifier.fan_in"),
        ("assemble_classifier.BandedLinear", "classifier.fan_in_by_frequency"),
    ],
)
def test_too_little_memory_is_said_and_leaves_no_folder(
    error, part, setting, drinks, tiny, tmp_path, invoke, monkeypatch
):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(f"fanin.training.{part}", refuse)
    bands = ("--set", "classifier.fan_in_by_frequency=[{share: 0.5, fan_in: 2}]") if "Banded" in part else ()
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny, *bands, "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    assert "too little memory" in outcome.err
    assert setting in outcome.err
    assert not (tmp_path / "run").exists()


def test_an_encoder_beyond_all_memory_is_refused(drinks, tiny, tmp_path, invoke):
    huge = ["--set", "encoder.embedding_dim=2147483647", "--set", "tokenizer.unknown_buckets=2147000000"]
    outcome = invoke("train", drinks, "--out", tmp_path / "run", *tiny, *huge, "--quiet")
    assert outcome.code == 2
    assert "encoder.embedding_dim" in outcome.err


def test_a_finished_run_is_not_overwritten(drinks, trained, tiny, invoke):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    outcome = invoke("train", drinks, "--out", trained, *tiny)
    assert outcome.code == 2
    assert "not empty" in outcome.err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_every_option_is_in_the_help(invoke):
    outcome = invoke("train", "--help")
    assert outcome.code == 0
    for part in ("--recipe", "--out", "--set", "--no-test", "--json", "--quiet", "[default: default]", "[required]"):
        assert part in " ".join(outcome.out.split())
    assert command.train.__doc__.splitlines()[0] in outcome.out
