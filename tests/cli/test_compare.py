"""``fanin compare``."""

import csv
import io
import json
import sys
from contextlib import redirect_stdout

import pytest
import yaml

from fanin.cli.main import run as run_command


@pytest.fixture
def mine(tmp_path, tiny):
    """A recipe file that trains on a few dozen texts at once."""
    values = {"extends": "plain"}
    for setting in tiny[1::2]:
        path, _, value = setting.partition("=")
        *sections, key = path.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = yaml.safe_load(value)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def trainings(monkeypatch):
    """Has the trainings run in this process, which saves each the seconds of a start; their command lines."""
    seen = []

    def stand_in(arguments, _lock):
        seen.append(list(arguments))
        with redirect_stdout(io.StringIO()):
            return run_command(arguments)

    monkeypatch.setattr("fanin.compare.running.run_fanin", stand_in)
    return seen


def test_a_real_process_a_run(drinks, mine, tmp_path, invoke):
    outcome = invoke("compare", drinks, "--recipe", f"one={mine}", "--out", tmp_path / "all", "--quiet", "--json")
    assert outcome.code == 0, outcome.err
    (recipe,) = json.loads(outcome.out)["recipes"]
    (run,) = recipe["runs"]
    assert (run["P@1"], recipe["mean"]["P@1"], recipe["deviation"]["P@1"]) == (1, 1, None)
    assert run["run"] == str(tmp_path / "all" / "one" / "seed-0")
    assert (tmp_path / "all" / "one" / "seed-0" / "model" / "model.json").is_file()


def test_tables_of_recipes_and_seeds(drinks, mine, trainings, tmp_path, invoke):
    recipes = ("--recipe", mine, "--recipe", f"F2={mine}:classifier.fan_in=2")
    options = (*recipes, "--seeds", "0,4", "--budget", "steps=9", "--out", tmp_path / "all", "--quiet")
    outcome = invoke("compare", drinks, *options)
    assert outcome.code == 0, outcome.err
    settings = [[part for part in line if part.startswith("training.")] for line in trainings]
    assert settings == [["training.seed=0", "training.steps=9"]] * 2 + [["training.seed=4", "training.steps=9"]] * 2
    assert [line.split()[:2] for line in outcome.out.splitlines() if line.startswith("F2 ")] == [["F2", "2"]] * 4
    page = (tmp_path / "all" / "compare.md").read_text(encoding="utf-8")
    assert "test split" in page
    assert "Budget: 9 steps" in page
    assert page.count("| mine | 2 | ") == page.count("| F2 | 2 | ") == 4
    with (tmp_path / "all" / "compare.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    runs = [
        json.loads((tmp_path / "all" / "mine" / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))
        for seed in (0, 4)
    ]
    values = [run["test"]["PSP@3"] for run in runs]
    assert float(first["PSP@3 mean"]) == pytest.approx(sum(values) / 2)
    assert float(first["PSP@3 deviation"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert float(second["classifier_bytes mean"]) < float(first["classifier_bytes mean"])


def test_what_is_finished_is_kept_and_what_is_half_done_starts_again(drinks, mine, trainings, tmp_path, invoke):
    options = ("--recipe", mine, "--budget", "steps=3", "--out", tmp_path / "all", "--quiet")
    assert invoke("compare", drinks, *options, "--seeds", "0,1").code == 0
    first, second = (tmp_path / "all" / "mine" / f"seed-{seed}" for seed in (0, 1))
    (second / "metrics.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    trainings.clear()
    outcome = invoke("compare", drinks, *options, "--seeds", "0,1,2")
    assert outcome.code == 0, outcome.err
    assert [line[line.index("--out") + 1] for line in trainings] == [str(second), str(first.with_name("seed-2"))]
    assert "1 of 3 runs are finished and kept" in outcome.err
    assert outcome.err.count("mine, seed 1: was left half done, starts again\n") == 1
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == kept
    trainings.clear()
    assert invoke("compare", drinks, *options).code == 0
    assert trainings == []
    table = invoke("compare", "--out", tmp_path / "all", "--table")
    assert table.code == 0
    assert [line.split()[:2] for line in table.out.splitlines() if line.startswith("mine ")] == [["mine", "3"]] * 4


def test_a_run_with_a_checkpoint_goes_on(drinks, mine, trainings, tmp_path, invoke, monkeypatch):
    options = ("--recipe", f"mine={mine}:training.checkpoint.steps=2", "--out", tmp_path / "all", "--quiet")

    def killed(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fanin.training.trainer.final_scores", killed)
        assert invoke("compare", drinks, *options).code == 130
    trainings.clear()
    outcome = invoke("compare", drinks, *options)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "all" / "mine" / "seed-0"
    assert trainings == [["resume", str(run), "--data", str(drinks), "--quiet"]]
    assert "mine, seed 0: goes on after step 36" in outcome.err
    (run / "metrics.json").unlink()
    (run / "checkpoints" / "step-00000036").mkdir(parents=True)
    mine.write_text(mine.read_text(encoding="utf-8").replace("fan_in: 8", "fan_in: 7"), encoding="utf-8")
    assert invoke("compare", drinks, *options).code == 0  # with other settings it starts again
    assert trainings[-1][0] == "train"


def test_without_the_test_split(drinks, mine, trainings, tmp_path, invoke):
    options = ("--recipe", mine, "--budget", "steps=3", "--out", tmp_path / "all", "--quiet")
    outcome = invoke("compare", drinks, *options, "--no-test", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["split"] == "validation"
    assert "--no-test" in trainings[0]
    assert trainings[0][trainings[0].index("--device") + 1] == "cpu"
    assert "--no-test" in invoke("compare", drinks, *options).err  # the two do not mix


def test_a_budget_of_seconds_is_the_same_steps_for_every_seed(drinks, mine, trainings, tmp_path, invoke):
    options = ("--recipe", mine, "--budget", "seconds=1", "--seeds", "0,1", "--out", tmp_path / "all", "--quiet")
    outcome = invoke("compare", drinks, *options, "--json")
    assert outcome.code == 0, outcome.err
    (recipe,) = json.loads(outcome.out)["recipes"]
    assert recipe["steps"] >= 1
    probe, *runs = trainings
    assert "--no-test" in probe
    assert [line[-2:] for line in (line[: line.index("--quiet")] for line in runs)] == [
        ["--set", f"training.steps={recipe['steps']}"]
    ] * 2
    assert sorted(path.name for path in (tmp_path / "all" / "mine").iterdir()) == ["seed-0", "seed-1"]


def test_a_run_that_fails_does_not_stop_the_others(drinks, mine, trainings, tmp_path, invoke):
    lost = (
        f"lost={mine}:classifier.loss=squared_hinge,classifier.update.kind=sgd,classifier.schedule.learning_rate=1e30"
    )
    options = ("--recipe", lost, "--recipe", mine, "--out", tmp_path / "all", "--quiet")
    outcome = invoke("compare", drinks, *options)
    assert outcome.code == 2
    assert "failed: lost, seed 0 (exit code 2)" in outcome.err
    assert "classifier.schedule.learning_rate" in outcome.err
    assert "mine " in outcome.out
    assert "Not finished yet: 1 runs." in (tmp_path / "all" / "compare.md").read_text(encoding="utf-8")


def test_a_recipe_that_has_changed_since_is_refused(drinks, mine, trainings, tmp_path, invoke):
    options = ("--recipe", mine, "--budget", "steps=3", "--out", tmp_path / "all", "--quiet")
    assert invoke("compare", drinks, *options).code == 0
    mine.write_text(mine.read_text(encoding="utf-8").replace("fan_in: 8", "fan_in: 7"), encoding="utf-8")
    outcome = invoke("compare", drinks, *options)
    assert outcome.code == 2
    assert f"{tmp_path / 'all' / 'mine' / 'seed-0'}: was made by other settings" in outcome.err
    assert len(trainings) == 1


def test_ctrl_c_says_what_is_kept(drinks, mine, trainings, tmp_path, invoke, monkeypatch):
    options = ("--recipe", mine, "--budget", "steps=3", "--out", tmp_path / "all", "--quiet")
    assert invoke("compare", drinks, *options).code == 0
    monkeypatch.setattr("fanin.compare.running.run_fanin", lambda *_: 130)
    outcome = invoke("compare", drinks, *options, "--seeds", "0,1")
    assert (outcome.code, outcome.out) == (130, "")
    assert "1 of 2 runs are finished and kept" in outcome.err.splitlines()[-1]


def test_without_matplotlib_the_tables_are_written(drinks, mine, trainings, tmp_path, invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    options = ("--recipe", mine, "--budget", "steps=3", "--out", tmp_path / "all", "--quiet")
    outcome = invoke("compare", drinks, *options)
    assert outcome.code == 0
    assert "pip install 'fanin[report]'" in outcome.err
    assert {path.name for path in (tmp_path / "all").glob("compare.*")} == {
        "compare.csv",
        "compare.json",
        "compare.lock",
        "compare.md",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs DATA"),
        (("DATA",), "at least one --recipe"),
        (("DATA", "--recipe", "defalt"), "did you mean 'default'"),
        (("DATA", "--recipe", "default", "--recipe", "dense:classifier.fan_in=3"), "dense:classifier.fan_in=3"),
        (("DATA", "--recipe", "default", "--seeds", "x"), "--seeds"),
        (("DATA", "--recipe", "default", "--budget", "3"), "--budget"),
        (("--table",), "compare.json"),
        (("DATA", "--table"), "--table takes --out DIR alone"),
        (("no/such/folder", "--recipe", "default"), "no/such/folder"),
        (("DATA", "--recipe", "default", "--device", "cuda:99"), "device 'cuda:99': torch"),
        (("DATA", "--recipe", "default", "--device", "gpu"), "device 'gpu' is not known"),
    ],
)
def test_mistakes_are_said_and_nothing_is_made(arguments, message, drinks, tmp_path, invoke):
    words = [drinks if word == "DATA" else word for word in arguments]
    outcome = invoke("compare", *words, "--out", tmp_path / "all")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "all").exists()
