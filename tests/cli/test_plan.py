"""``fanin plan``, and ``fanin train`` where there is too little memory."""

import json

import pytest

from fanin.memory.room import Room


@pytest.fixture(autouse=True)
def _base_of_a_fresh_process(monkeypatch):
    """This process holds whatever earlier tests left in it, which must not count as the libraries' memory."""
    monkeypatch.setattr("fanin.memory.base.resident_bytes", lambda: 300 << 20)


def test_a_plan_of_a_data_set(drinks, invoke):
    outcome = invoke("plan", drinks, "--recipe", "plain", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    plan = json.loads(outcome.out)
    assert (plan["labels"], plan["rows"], plan["recipe"]) == (4, 48, "plain")
    assert plan["peak_bytes"] == max(stage["bytes"] for stage in plan["training"])
    assert plan["prediction"]["bytes"] == sum(part["bytes"] for part in plan["prediction"]["parts"])
    table = invoke("plan", drinks, "--recipe", "plain")
    assert table.code == 0
    for line in ("classifier weights", "embedding table", "Python and libraries", "in all", "reading the data"):
        assert line in table.out


def test_a_plan_by_numbers_and_a_budget(invoke):
    numbers = ("plan", "--labels", "3000000", "--rows", "1000000", "--recipe", "plain")
    assert invoke(*numbers, "--budget", "64GiB").code == 0
    outcome = invoke(*numbers, "--budget", "2GiB")
    assert outcome.code == 2
    first, *ways = outcome.err.splitlines()
    assert first.startswith("error: training needs about ")
    assert "2.0 GiB are the budget. Any of these brings it under that:" in first
    assert ways[0].startswith("  1. ")
    assert any("classifier.fan_in=20 instead of 40: " in way for way in ways)
    assert "classifier weights" in outcome.out  # the plan itself is shown all the same


def test_ways_that_are_enough_together_only_are_told_so(invoke):
    outcome = invoke("plan", "--labels", "10000000", "--recipe", "plain", "--device", "cuda", "--budget", "1GiB")
    first, *ways = outcome.err.splitlines()
    told = "the last but one, several together, is, and so is the last, other numbers of processes:"
    assert first.endswith(f"1.0 GiB are the budget. None of these is enough alone; {told}")
    *alone, together, more = ways
    assert all(way.endswith(" GiB") for way in alone)  # a GiB and more
    assert together.endswith(" MiB")
    assert " processes, each with a GPU of its own, started by torchrun: " in more
    assert more.endswith(" MiB a GPU")


def test_a_plan_for_a_gpu_needs_none(invoke):
    numbers = ("plan", "--labels", "3000000", "--rows", "1000000", "--recipe", "plain", "--device", "cuda")
    outcome = invoke(*numbers)
    assert outcome.code == 0
    for line in ("training, on the GPU, most while", "training, beside it, most while", "CUDA and its libraries"):
        assert line in outcome.out
    plan = json.loads(invoke(*numbers, "--json").out)
    assert plan["gpu_peak_bytes"] == max(stage["gpu_bytes"] for stage in plan["training"])
    outcome = invoke(*numbers, "--budget", "2GiB")
    assert outcome.code == 2
    assert "of memory on the GPU; 2.0 GiB are the budget. Any of these brings it under that:" in outcome.err
    assert "is not known; use cpu, cuda" in invoke(*numbers[:-1], "gpu").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a data set or --labels N"),
        (("--labels", "100000000000"), "--labels 100000000000: more than 2147483647 labels; no more are supported"),
        (("--labels", "5", "--budget", "much"), "give a size such as 4GiB"),
        (("--labels", "5", "--recipe", "no such"), "there is no recipe"),
        (("--labels", "5", "--set", "encoder={kind: features}", "--recipe", "plain"), "give the data set"),
    ],
)
def test_what_cannot_be_planned(arguments, message, invoke):
    outcome = invoke("plan", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_rows_of_a_data_set_are_its_own(drinks, invoke):
    assert "--rows goes with --labels" in invoke("plan", drinks, "--rows", "5").err


def test_a_plan_for_one_of_several_processes(drinks, invoke):
    numbers = ("plan", "--labels", "100000", "--rows", "1000", "--recipe", "plain", "--json")
    alone, shared = (json.loads(invoke(*numbers, *more).out) for more in ((), ("--processes", "4")))
    first, second = (
        {part["name"]: part["bytes"] for part in plan["training"][-2]["parts"]} for plan in (alone, shared)
    )
    assert second["classifier weights"] == first["classifier weights"] // 4
    assert second["embedding table"] == first["embedding table"]
    assert "sent_in_a_step" not in alone
    assert sum(part["bytes"] for part in shared["sent_in_a_step"]) > 1e6
    table = invoke("plan", drinks, "--recipe", "plain", "--processes", "2").out
    assert "sent in a step, by one of 2" in table
    assert "2 processes, one on each of 2 machines: needed at most, while " in table


def test_a_plan_for_processes_that_share_machines(invoke):
    numbers = ("plan", "--labels", "3000000", "--rows", "1000", "--recipe", "plain", "--processes", "4")
    one, two = (json.loads(invoke(*numbers, "--per-machine", count, "--json").out) for count in ("1", "2"))
    assert one["needed_bytes"] == two["needed_bytes"] == one["machine_needed_bytes"]
    # Metrics are there once, all else in both.
    validation = next(stage for stage in two["training"] if stage["stage"] == "validation")
    once = sum(part["bytes"] for part in validation["parts"] if part["once"])
    assert once > 2e8
    assert two["machine_needed_bytes"] == max(2 * validation["needed_bytes"] - once, two["machine_needed_bytes"])
    assert two["needed_bytes"] < two["machine_needed_bytes"] < 2 * two["needed_bytes"]
    outcome = invoke(*numbers, "--per-machine", "2", "--budget", "1500MiB")
    assert outcome.code == 2
    assert "4 processes, 2 on each of 2 machines: needed at most, while " in outcome.out
    first, *ways = outcome.err.splitlines()
    assert "of memory for 2 of 4 processes on a machine; 1.5 GiB are the budget. Any of these" in first
    assert ", instead of 4 processes, 2 on each of 2 machines: " in ways[-1]
    assert "there are no more than 4 processes" in invoke(*numbers, "--per-machine", "5").err


def test_training_that_does_not_fit_is_refused_and_leaves_nothing(drinks, tiny, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("fanin.memory.check.find_room", lambda *_: Room(100 << 20, None, 1))
    outcome = invoke("train", drinks, "--recipe", "plain", "--out", tmp_path / "run", *tiny, "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: training needs about ")
    assert "100 MiB are free, counting limits of containers" in outcome.err
    assert not (tmp_path / "run").exists()
