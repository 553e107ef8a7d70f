"""Runs of several processes: they give what one process gives, whatever the recipe, and go on as any number of them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from fanin.model_files import load_model
from fanin.recipes.recipe_files import recipe_text

NOISE = ("encoder.dropout=0.2", "encoder.token_dropout=0.1")
WORDS = ("encoder.lexical_features=60", "classifier.start=tokens", "classifier.start_gain=4")
GROW = "classifier.rewiring.grow"
AUXILIARY = "auxiliary={clusters: 8, cutoff_share: 0.6, schedule: {learning_rate: 0.05}}"
INTERMEDIATE = "intermediate={width: 48, dropout: 0.1, schedule: {learning_rate: 0.005}}"
FREQUENT = "classifier.fan_in_by_frequency=[{share: 0.2, fan_in: 24}]"
RECIPES = {
    "words, groups, clusters": (
        3,
        "plain",
        *NOISE,
        *WORDS,
        "classifier.group_size=2",
        "classifier.cluster_size=4",
        "classifier.own_text_margin=0.5",
    ),
    "bands, auxiliary objective, intermediate layer": (
        2,
        "plain",
        *NOISE,
        FREQUENT,
        AUXILIARY,
        INTERMEDIATE,
        f"{GROW}={{random: 0.4, gradient: 0.3, separating: 0.3}}",
        "classifier.tail=propensity",
    ),
    "dense, momentum": (3, "dense", *NOISE, "classifier.update={kind: sgd, momentum: 0.9}", AUXILIARY),
    "head and tail": (2, "head-tail", *NOISE, "classifier.fan_in=8", "classifier.head_share=0.1"),
}
LONG = {
    "sgd, label names as texts": (
        3,
        "plain",
        *NOISE,
        "classifier.update={kind: sgd}",
        "classifier.schedule.learning_rate=0.5",
        "training.label_texts=true",
        "classifier.loss=squared_hinge",
    ),
    "bfloat16": (3, "plain", *NOISE, "classifier.weights=bf16", "classifier.cluster_size=4"),
    "float8": (2, "plain", *NOISE, "classifier.weights=fp8", "classifier.update={kind: sgd}"),
    "dense, bfloat16": (2, "dense", "classifier.weights=bf16"),
    "start from centroids, of texts and names": (
        2,
        "plain",
        *NOISE,
        "classifier.start=centroids",
        "classifier.cluster_size=4",
        "training.label_features=both",
        FREQUENT,
    ),
    "dense, start from centroids": (2, "dense", "classifier.start=centroids"),
    "words, clusters, intermediate layer": (
        3,
        "plain",
        *NOISE,
        *WORDS,
        INTERMEDIATE,
        "classifier.cluster_size=4",
        f"{GROW}=gradient",
        "classifier.tail=margin",
    ),
    "threshold, largest of a group": (
        2,
        "plain",
        "classifier.group_size=3",
        "classifier.rewiring.threshold=0.05",
        "classifier.rewiring.group_score=max",
        "classifier.rewiring.decay=none",
    ),
    "no rewiring": (2, "static", *NOISE, "classifier.fan_in=16"),
    "default": (2, "default", *NOISE, "classifier.fan_in=16", FREQUENT, "classifier.cluster_size=2"),
}
LOW_BITS = 0.02  # one weight in so many may be rounded to the other side


@pytest.fixture(scope="module")
def texts(write_planted, tmp_path_factory):
    """102 training texts, of which 97 are trained on: a step of 32 is not even for 3, and the last one has one text."""
    return write_planted(tmp_path_factory.mktemp("texts"), rows=102)


@pytest.fixture
def recipe_file(tmp_path, tiny_recipe):
    def write(name, *settings):
        path = tmp_path / "recipe.yaml"
        rewiring = () if name in {"dense", "dense-autograd", "static"} else ("classifier.rewiring.interval=3",)
        path.write_text(recipe_text(tiny_recipe(name, *rewiring, "training.log_every=1", *settings)), encoding="utf-8")
        return path

    return write


def end_of(*started):
    """The exit codes of commands, with what they wrote where one is not zero."""
    codes = [one.wait() for one in started]
    return codes if not any(codes) else (codes, [one.output for one in started])


def trained(processes, count, data, run, recipe, first=""):
    arguments = ("train", data, "--out", run, "--recipe", recipe, "--quiet")
    if count > 1:
        started = processes.start_together(count, *arguments, first=first)
    else:
        started = [processes.start(*arguments, first=first)]
    assert end_of(*started) == [0] * count
    assert not any(one.output for one in started[1:])  # the first one alone tells of it
    return run


@pytest.mark.parametrize("name", [*RECIPES, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_the_result_is_that_of_one_process(name, texts, processes, recipe_file, tmp_path):
    count, *settings = (RECIPES | LONG)[name]
    recipe = recipe_file(*settings, "training.epochs=2")
    alone = trained(processes, 1, texts, tmp_path / "alone", recipe)
    assert_alike(alone, trained(processes, count, texts, tmp_path / "together", recipe), count)


def assert_alike(alone, together, count):
    """Two run folders, but for what sums in another order may change."""
    first, second = load_model(alone / "model"), load_model(together / "model")
    assert first.classifier.settings() == second.classifier.settings()
    for part in ("encoder", "classifier"):
        expected, found = (getattr(model, part).state_dict() for model in (first, second))
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            differ = (tensor.double() - expected[name].double()).abs() > 1e-4 + 1e-3 * expected[name].double().abs()
            allowed = LOW_BITS if tensor.dtype in {torch.bfloat16, torch.float8_e4m3fn} else 0
            assert differ.double().mean() <= allowed, f"{part}: {name}"
    assert log_of(together) == [pytest.approx(line, rel=1e-3, abs=1e-6) for line in log_of(alone)]
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (alone, together))
    assert theirs.pop("processes") == count
    assert ours.keys() == theirs.keys()
    assert ours["classifier_bytes"] == theirs["classifier_bytes"]
    assert theirs["test"]["P@1"] == pytest.approx(ours["test"]["P@1"], abs=0.05)


def log_of(run):
    """The numbers of a run's log that do not depend on the machine, each event by what it is and the step or epoch."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [_numbers(line) for line in lines if line["event"] in {"step", "rewire", "validation", "epoch"}]


def _numbers(line):
    grown = {f"grown {mode}": count for mode, count in line.get("grown", {}).items()}
    own = {
        key: value for key, value in line.items() if key not in {"seconds", "texts_per_second", "peak_bytes", "grown"}
    }
    return {key: value for key, value in (own | grown).items() if isinstance(value, float | int)} | {
        f"is {line['event']}": 1
    }


def test_stopped_killed_and_resumed_by_other_numbers(texts, processes, recipe_file, tmp_path):
    settings = (
        *NOISE,
        *WORDS,
        AUXILIARY,
        "classifier.cluster_size=4",
        f"{GROW}=gradient",
        "training.checkpoint.steps=3",
    )
    recipe, run = recipe_file("plain", *settings, "training.epochs=12"), tmp_path / "run"
    alone = trained(processes, 1, texts, tmp_path / "alone", recipe)

    two = processes.start_together(2, "train", texts, "--out", run, "--recipe", recipe, "--quiet")
    wait_for_steps(run, 6, two)
    two[1].send(signal.SIGTERM)  # to one of them: all stop, and save where they are
    assert [one.wait() for one in two] == [143, 143], [one.output for one in two]
    assert "which is saved; go on with: fanin resume" in two[0].output
    assert two[1].output == ""

    three = processes.start_together(3, "resume", run, "--quiet")
    wait_for_steps(run, 18, three)
    three[2].kill()
    began = time.monotonic()
    assert [one.wait() for one in three[:2]] == [2, 2]
    assert time.monotonic() - began < 60
    for one in three[:2]:
        assert "another process of this run has ended or cannot be reached" in one.output
        assert "go on with fanin resume" in one.output
        assert "Traceback" not in one.output

    assert end_of(processes.start("resume", run, "--quiet")) == [0]
    assert [line["step"] for line in log_of(run) if "is step" in line] == list(range(1, 49))
    ours, theirs = (load_model(folder / "model").classifier for folder in (alone, run))
    assert torch.equal(ours.index, theirs.index)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-2, atol=1e-3)


def wait_for_steps(run, step, started):
    log, deadline = run / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and f'"step": {step}, "epoch"' in log.read_text()):
        assert not any(one.ended for one in started), [one.output for one in started]
        assert time.monotonic() < deadline, [one.output for one in started]
        time.sleep(0.005)


# In one process only: a weight of its labels in step 7, its gradient by the first text's vector in step 10.
SPOILT_IN_THE_LAST = """
import math, torch
from fanin.training import objectives, trainer

train_on, make_step = trainer.train_on, objectives.Objectives.step

def spoilt(parts, step, batch):
    if step == 7 and parts.processes.rank == parts.processes.size - 1:
        weights = [tensor for tensor in parts.classifier.state_dict().values() if tensor.is_floating_point()]
        weights[0].view(-1)[5] = math.nan
    objectives.Objectives.step = faulty if parts.processes.rank == parts.processes.size - 1 else make_step
    return train_on(parts, step, batch)

def faulty(self, step, x, positives):
    losses, dx = make_step(self, step, x, positives)
    if step == 10:
        dx[0, 3] = math.nan
    return losses, dx

trainer.train_on = spoilt
"""


def test_values_that_are_not_finite_in_one_process_stop_all_in_the_same_step(texts, processes, recipe_file, tmp_path):
    recipe, run = recipe_file("plain", "training.epochs=3", "training.checkpoint.steps=3"), tmp_path / "run"
    arguments = ("train", texts, "--out", run, "--recipe", recipe, "--quiet")
    started = processes.start_together(2, *arguments, first=SPOILT_IN_THE_LAST)
    assert [one.wait() for one in started] == [2, 2], [one.output for one in started]
    assert all("error: in step 7 the loss is nan; lower" in one.output for one in started)
    assert "let the run go on from the checkpoint of step 6, which is kept" in started[0].output
    assert not any("Traceback" in one.output for one in started)
    assert end_of(*processes.start_together(2, "resume", run, "--quiet")) == [0, 0]
    undisturbed = trained(processes, 2, texts, tmp_path / "undisturbed", recipe)
    assert log_of(run) == log_of(undisturbed)


def test_all_pass_over_a_batch_whose_values_are_not_finite_in_one(texts, processes, recipe_file, tmp_path):
    recipe = recipe_file("plain", "training.epochs=3", "training.on_non_finite=skip", "training.checkpoint.steps=3")
    alone = trained(processes, 1, texts, tmp_path / "alone", recipe, SPOILT_IN_THE_LAST)
    together = trained(processes, 2, texts, tmp_path / "together", recipe, SPOILT_IN_THE_LAST)
    for run in (alone, together):
        assert json.loads((run / "metrics.json").read_text())["skipped_steps"] == [7, 10]
    assert_alike(alone, together, 2)


@pytest.mark.parametrize(
    ("count", "name", "settings", "told"),
    [
        (2, "dense-autograd", (), "classifier.kind dense_autograd is a baseline for one process"),
        (2, "plain", ("classifier.rewiring.scope=layer",), "classifier.rewiring.scope is layer"),
        (3, "plain", ("classifier.group_size=39",), "3 processes cannot share 40 outputs that are cut in 2 runs of 39"),
    ],
)
def test_what_processes_cannot_share_is_refused(count, name, settings, told, texts, processes, recipe_file, tmp_path):
    recipe = recipe_file(name, *settings)
    started = processes.start_together(count, "train", texts, "--out", tmp_path / "run", "--recipe", recipe, "--quiet")
    assert [one.wait() for one in started] == [2] * count
    assert any(told in one.output for one in started)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused_once_and_by_all(texts, processes, recipe_file, tmp_path):
    recipe = recipe_file("plain", "encoder.embedding_dim=100000000")  # a table of hundreds of gigabytes
    started = processes.start_together(2, "train", texts, "--out", tmp_path / "run", "--recipe", recipe)
    assert [one.wait() for one in started] == [2, 2]
    first, second = (one.output for one in started)
    assert first.startswith("error: training needs about ")
    assert "of memory for 2 of 2 processes on a machine; " in first
    assert "  1. encoder.embedding_dim=" in first
    assert "Traceback" not in first
    assert second == ""
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_it(texts, recipe_file, tmp_path):
    recipe, run = recipe_file("plain", "training.epochs=1"), tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "fanin"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FANIN_CACHE": str(tmp_path / "cache")}
    arguments = ["train", str(texts), "--out", str(run), "--recipe", str(recipe), "--quiet", "--json"]
    found = subprocess.run([*command, *arguments], capture_output=True, env=environment, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["processes"] == 2
    assert (run / "model" / "model.json").is_file()


def test_an_environment_that_says_nonsense_is_told(texts, recipe_file, tmp_path, processes):
    names = {"RANK": "two", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    recipe = recipe_file("plain")
    started = processes.start("train", texts, "--out", tmp_path / "run", "--recipe", recipe, environment=names)
    assert started.wait() == 2
    assert "cannot join the other processes of this run" in started.output
    assert "RANK=two" in started.output
