"""``--device`` of the commands that compute."""

import json
import shutil

import pytest


@pytest.fixture
def commands(drinks, trained, tmp_path):
    """Arguments of every command that computes, but for the device."""
    return {
        "train": ("train", drinks, "--out", tmp_path / "run"),
        "plan": ("plan", drinks),
        "resume": ("resume", trained),
        "evaluate": ("evaluate", trained, drinks),
        "predict": ("predict", trained, "--text", "green leaves"),
    }


@pytest.mark.parametrize("name", ["train", "resume", "evaluate", "predict"])
def test_a_gpu_that_is_not_there_leaves_nothing_behind(name, commands, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = invoke(*commands[name], "--device", "cuda")
    assert (outcome.code, outcome.out) == (2, "")
    assert "device 'cuda': torch" in outcome.err
    assert "use cpu" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99999999999999999999"])
@pytest.mark.parametrize("name", ["train", "plan", "resume", "evaluate", "predict"])
def test_an_unknown_name_is_refused(name, device, commands, invoke):
    outcome = invoke(*commands[name], "--device", device)
    assert outcome.code == 2
    assert f"error: device '{device}' is not known; use cpu, cuda or cuda:N" in outcome.err


def test_one_that_a_run_folder_names(trained, tmp_path, invoke):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "metrics.json").unlink()
    origin = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(origin | {"device": "cuda:99999999999999999999"}), encoding="utf-8")
    outcome = invoke("resume", run)
    assert outcome.code == 2
    assert f"error: {run / 'run.json'}: device 'cuda:99999999999999999999' is not known" in outcome.err


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_the_cpu_is_the_default(name, commands, invoke):
    plain, named = (invoke(*commands[name], "--json", *device) for device in ((), ("--device", "cpu")))
    assert named.code == 0
    first, second = (_scores(outcome.out) for outcome in (plain, named))
    assert first == second


def test_where_it_was_trained_is_in_the_run_folder(trained):
    assert json.loads((trained / "run.json").read_text(encoding="utf-8"))["device"] == "cpu"
    assert json.loads((trained / "metrics.json").read_text(encoding="utf-8"))["device"] == "cpu"


def _scores(out):
    return {key: value for key, value in json.loads(out).items() if "second" not in key}
