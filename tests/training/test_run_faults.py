"""Trainings that are stopped or killed, or find the disk full: nothing saved is lost, and the result is the same."""

import json
import random
import signal
import time

import pytest

from fanin.errors import CheckpointError
from fanin.runs.checkpoint import DESCRIPTION, read_checkpoint
from same_runs import assert_same_run

SETTINGS = (
    "encoder.dropout=0.2",
    "encoder.token_dropout=0.1",
    "encoder.lexical_features=60",
    "classifier.start=tokens",
    "classifier.cluster_size=4",
    "classifier.rewiring.grow={random: 0.5, gradient: 0.5}",
    "training.epochs=5",
    "training.checkpoint={steps: 8, kept: 3}",
)


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_recipe):
    """The options of a run of 90 steps."""
    from fanin.recipes.recipe_files import recipe_text

    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(recipe_text(tiny_recipe("plain", *SETTINGS)), encoding="utf-8")
    return "--recipe", path, "--quiet"


def checkpoints(run):
    """The steps of all checkpoints that are in place."""
    return sorted(int(path.parent.name[5:]) for path in run.glob(f"checkpoints/step-????????/{DESCRIPTION}"))


def makes_steps(run, resumed):
    """Whether the run was resumed so often, and has written something since."""
    log = run / "log.jsonl"
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()] if log.exists() else []
    return events.count("resume") == resumed and len(events) > 3 and events[-1] != "resume"


def saving(run):
    return any(run.glob("checkpoints/*.writing-*"))


def wait_until(happened, training, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert not training.ended, training.output
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def assert_none_lost(run, before):
    """All checkpoints in place are whole, and none is older than the newest that was there before."""
    now = checkpoints(run)
    for step in now:
        read_checkpoint(run / "checkpoints" / f"step-{step:08d}")
    assert not before or (now and now[-1] >= before[-1])


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_killed_at_any_moment(kills, planted, options, processes, undisturbed, tmp_path):
    rng, runs, done = random.Random(kills), 0, 0
    while done < kills or not runs:
        run = tmp_path / f"run-{runs}"
        training = processes.start("train", planted, "--out", run, *options)
        wait_until((run / "recipe.yaml").exists, training)
        while True:
            if done == kills:
                break
            if done % 2:  # in the middle of a save
                while not saving(run) and not training.ended:
                    time.sleep(0.0005)
                time.sleep(rng.uniform(0, 0.03))
            else:
                time.sleep(rng.uniform(0, 1.0))
            if training.ended:
                break
            before = checkpoints(run)
            training.kill()
            done += 1
            assert_none_lost(run, before)
            training = processes.start("resume", run, "--quiet")
        assert training.wait() == 0, training.output
        assert_same_run(undisturbed, run)
        runs += 1


def test_killed_while_the_kept_model_is_scored(planted, options, processes, undisturbed, tmp_path):
    """What was trained has left memory by then; the state after the last step is on the disk."""
    run = tmp_path / "run"
    training = processes.start("train", planted, "--out", run, *options)
    wait_until(lambda: checkpoints(run)[-1:] == [90], training)
    training.kill()
    assert_none_lost(run, [90])
    again = processes.start("resume", run, "--quiet")
    assert again.wait() == 0, again.output
    assert_same_run(undisturbed, run)


def test_stopped_by_signals(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "a run"
    training = processes.start("train", planted, "--out", run, *options, "--set", "training.checkpoint.steps=null")
    for resumed, (number, code) in enumerate(((signal.SIGTERM, 143), (signal.SIGINT, 130))):
        wait_until(lambda: makes_steps(run, resumed), training)  # noqa: B023
        training.send(number)
        training.send(number)  # as timeout and some batch systems do
        assert training.wait() == code
        (step,) = checkpoints(run)[-1:]
        assert f"stopped after step {step}, which is saved; go on with: fanin resume '{run}'" in training.output
        assert "Traceback" not in training.output
        training = processes.start("resume", run, "--quiet")
    assert training.wait() == 0, training.output
    assert_same_run(undisturbed, run)
    again = processes.start("resume", run, "--quiet")
    assert again.wait() == 0
    assert "nothing is left to do" in again.output
    assert not (run / "checkpoints").exists()


def test_the_disk_is_full_during_a_save(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    training = processes.start("train", planted, "--out", run, *options)
    wait_until(lambda: checkpoints(run), training)
    training.kill()
    before = checkpoints(run)
    sizes = [path.stat().st_size for path in run.glob("checkpoints/step-*/encoder.safetensors")]
    training = processes.start("resume", run, "--quiet", file_limit=min(sizes) // 2)
    assert training.wait() == 2
    assert f"step-{before[-1] + 8:08d}: the checkpoint could not be written" in training.output
    assert f"the one of step {before[-1]} is kept" in training.output
    assert checkpoints(run) == before
    assert_none_lost(run, before)
    assert not saving(run)
    training = processes.start("resume", run, "--quiet")
    assert training.wait() == 0, training.output
    assert_same_run(undisturbed, run)


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    training = processes.start("train", planted, "--out", run, *options)
    wait_until(lambda: checkpoints(run), training)
    second = processes.start("resume", run)
    assert second.wait() == 2
    assert f"{run}: another process is training in this run folder" in second.output
    training.kill()
    third = processes.start("resume", run, "--quiet")
    assert third.wait() == 0, third.output
    assert_same_run(undisturbed, run)


def test_damaged_checkpoints_are_named_and_the_one_before_is_used(planted, options, processes, undisturbed, tmp_path):
    run = tmp_path / "run"
    training = processes.start("train", planted, "--out", run, *options)
    wait_until(lambda: len(checkpoints(run)) == 3, training)
    training.kill()
    oldest, *damaged = checkpoints(run)
    files = [run / "checkpoints" / f"step-{step:08d}" / "classifier.safetensors" for step in damaged]
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-1])
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2] ^= 4
    files[1].write_bytes(content)
    for file in files:
        with pytest.raises(CheckpointError, match=str(file)):
            read_checkpoint(file.parent)
    training = processes.start("resume", run)
    assert training.wait() == 0, training.output
    told = "".join(training.output.split())  # however the lines were folded
    assert all(str(file) in told for file in files)
    assert f"theoneofstep{oldest}isused" in told
    assert f"goingonafterstep{oldest}" in told
    assert_same_run(undisturbed, run)
