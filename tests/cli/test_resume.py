"""``fanin resume``."""

import json
import os
import shutil
import signal

import pytest

from fanin.memory.room import Room
from fanin.training import final_scores
from fanin.training.trainer import Trainer
from same_runs import assert_same_run


@pytest.fixture
def stopped(drinks, tiny, tmp_path, invoke, monkeypatch):
    """The folder of a run that was stopped after its third step of 36."""

    def stop(self, batch):
        make_step(self, batch)
        if self._position.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    make_step = Trainer._make_step
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_make_step", stop)
        outcome = invoke("train", drinks, "--recipe", "plain", "--out", tmp_path / "run", *tiny, "--no-test")
    assert (outcome.code, outcome.out) == (143, "")
    assert (
        outcome.err.splitlines()[-1]
        == f"stopped after step 3, which is saved; go on with: fanin resume {tmp_path / 'run'}"
    )
    return tmp_path / "run"


def test_it_goes_on_and_prints_what_train_would(stopped, drinks, tiny, tmp_path, invoke):
    whole = invoke("train", drinks, "--recipe", "plain", "--out", tmp_path / "whole", *tiny, "--no-test", "--quiet")
    outcome = invoke("resume", stopped)
    assert outcome.code == 0, outcome.err
    assert "going on after step 3" in outcome.err
    scores = [
        [line for line in out.splitlines() if line[:3] in ("P  ", "PSP", "nDC")] for out in (whole.out, outcome.out)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3
    assert "validation texts" in outcome.out
    assert outcome.out.endswith(f"run folder: {stopped}\n")


@pytest.mark.parametrize("scorings", [1, 2])  # of the validation rows, of the test split
def test_stopped_while_the_kept_model_is_scored(scorings, drinks, tiny, tmp_path, invoke, monkeypatch):
    """Nothing is trained any more, and what was trained has left memory: the last state stands on the disk."""

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) == scorings:
            os.kill(os.getpid(), signal.SIGTERM)
        return score_split(*arguments, **options)

    calls, score_split = [], final_scores.score_split
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert invoke("train", drinks, "--recipe", "plain", "--out", whole, *tiny, "--quiet").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(final_scores, "score_split", stop)
        outcome = invoke("train", drinks, "--recipe", "plain", "--out", run, *tiny, "--quiet")
    assert outcome.code == 143
    assert f"stopped after step 36, which is saved; go on with: fanin resume {run}" in outcome.err
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000036"]
    assert not (run / "metrics.json").exists()
    monkeypatch.setattr(Trainer, "_make_step", None)  # nothing is trained again
    assert invoke("resume", run, "--quiet").code == 0
    assert_same_run(whole, run)
    assert "test" in json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert not (run / "checkpoints").exists()


def test_json_and_quiet(stopped, invoke):
    outcome = invoke("resume", stopped, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    stored = json.loads((stopped / "metrics.json").read_text(encoding="utf-8"))
    assert document == {"run": str(stopped), **stored}
    assert "test" not in document  # as the run was started
    again = invoke("resume", stopped, "--json")
    assert again.code == 0
    assert json.loads(again.out) == document
    assert "nothing is left to do" in again.err


def test_settings(stopped, invoke):
    refused = invoke("resume", stopped, "--set", "classifier.fan_in=3")
    assert refused.code == 2
    assert "classifier.fan_in cannot be changed" in refused.err
    assert invoke("resume", stopped, "--set", "classifier.schedule.learning_rate=0.01", "--quiet").code == 0
    assert "learning_rate: 0.01" in (stopped / "recipe.yaml").read_text(encoding="utf-8")


def test_data_that_has_moved(stopped, drinks, tmp_path, invoke):
    path = stopped / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace(str(drinks), str(tmp_path / "gone")), encoding="utf-8")
    missing = invoke("resume", stopped)
    assert missing.code == 2
    assert f"{tmp_path / 'gone'}: there is no such folder" in missing.err
    assert invoke("resume", stopped, "--data", drinks, "--quiet").code == 0


def test_no_run(tmp_path, trained, invoke):
    outcome = invoke("resume", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path}: holds no run that could be resumed" in outcome.err
    assert "holds no run" in invoke("resume", trained / "model").err


@pytest.mark.parametrize("metrics", [{"validation": 1}, {"validation": {"points": 3}}, {"validation": None}])
@pytest.mark.parametrize("json_wanted", [True, False])
def test_damaged_metrics_of_a_finished_run(metrics, json_wanted, trained, tmp_path, invoke):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    outcome = invoke("resume", run, *(["--json"] if json_wanted else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {run}: its metrics are damaged" in outcome.err


def test_every_option_is_in_the_help(invoke):
    outcome = invoke("resume", "--help")
    assert outcome.code == 0
    for part in ("RUN", "--data", "--set", "--json", "--quiet"):
        assert part in outcome.out


def test_what_does_not_fit_is_refused_before_anything_is_made(stopped, invoke, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("fanin.memory.check.find_room", lambda *_: Room(100 << 20, None, 1))
        outcome = invoke("resume", stopped)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {stopped}: training needs about " in outcome.err
    assert outcome.err.splitlines()[-1].startswith("The settings of a run that goes on cannot be changed so: ")
    assert invoke("resume", stopped, "--quiet").code == 0
