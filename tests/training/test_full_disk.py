"""The disk is full when something else than a checkpoint is written: the file is named, and the run can go on."""

import pytest

from fanin.model_files import load_model
from fanin.recipes.recipe_files import recipe_text
from fanin.runs.checkpoint import read_checkpoint
from same_runs import assert_same_run

# Only for as long as a method writes, since what the process tells goes into a file too.
WHILE = """
import resource
from {module} import {kind}
write = {kind}.{method}

def on_a_full_disk(*arguments):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        return write(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

{kind}.{method} = on_a_full_disk
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_recipe):
    """The options of a run of 36 steps."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe = tiny_recipe("plain", "training.epochs=2", "training.checkpoint={steps: 8, kept: 3}")
    path.write_text(recipe_text(recipe), encoding="utf-8")
    return "--recipe", path, "--quiet"


def assert_refused(training, message):
    assert training.wait() == 2
    assert training.output.startswith("error: ")
    assert message in training.output
    assert "File too large" in training.output
    assert "Traceback" not in training.output


def assert_goes_on(run, undisturbed, processes):
    """Nothing half written is left, what was saved is whole, and the run comes to the same."""
    assert not [path for path in run.rglob("*") if ".writing-" in path.name]
    for folder in run.glob("checkpoints/step-*"):
        read_checkpoint(folder)
    again = processes.start("resume", run, "--quiet")
    assert again.wait() == 0, again.output
    assert_same_run(undisturbed, run)


def test_the_kept_model(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    first = WHILE.format(module="fanin.training.kept_model", kind="KeptModel", method="keep")
    training = processes.start("train", planted, "--out", run, *options, first=first)
    assert_refused(training, f"{run / 'model'}: the model could not be saved")
    assert not (run / "model").exists()
    assert sorted(path.name for path in run.glob("checkpoints/*")) == ["step-00000008", "step-00000016"]
    assert_goes_on(run, undisturbed, processes)


def test_the_metrics(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    first = WHILE.format(module="fanin.runs.run_folder", kind="RunFolder", method="write_metrics")
    training = processes.start("train", planted, "--out", run, *options, first=first)
    assert_refused(training, f"{run / 'metrics.json'}: cannot be written")
    assert not (run / "metrics.json").exists()
    assert load_model(run / "model").predict(["word1"], 3)
    assert (run / "checkpoints" / "step-00000036").is_dir()
    assert_goes_on(run, undisturbed, processes)


@pytest.mark.parametrize("room", [5, 100])  # bytes behind the checkpoint's events: none fits, or the next one does
def test_the_log(room, planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    stopped = WHILE.format(module="fanin.training.kept_model", kind="KeptModel", method="keep")
    assert processes.start("train", planted, "--out", run, *options, first=stopped).wait() == 2
    newest = read_checkpoint(run / "checkpoints" / "step-00000016")
    size = newest.facts.log_size + room
    training = processes.start("resume", run, "--quiet", file_limit=size)
    assert_refused(training, f"{run / 'log.jsonl'}: cannot be written")
    assert_goes_on(run, undisturbed, processes)
