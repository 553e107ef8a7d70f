"""How many steps a budget of seconds comes to; the runs themselves are in tests/cli/test_compare.py."""

import json

import pytest

from fanin.compare.running import steps_within
from fanin.errors import CheckpointError, FaninError


def write_probe(folder, each, start, *, steps=200, interval=20):
    """The log of a run whose steps take ``each`` seconds, after 5 seconds of reading and ``start`` seconds of start."""
    lines = [{"event": "start", "seconds": 5 + start}]
    lines += [
        {"event": "step", "step": step, "seconds": 5 + start + each * step, "loss": 1.0}
        for step in range(interval, steps + 1, interval)
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    metrics = {"validation": {}, "train_seconds": start + each * steps}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("seconds", "each", "start"), [(100, 0.01, 0.0), (3600, 0.25, 60.0), (10, 0.125, 5.0)])
def test_the_start_is_paid_once_and_every_step_alike(seconds, each, start, tmp_path):
    steps = steps_within(seconds, write_probe(tmp_path, each, start))
    assert start + steps * each <= seconds + 1e-6
    assert start + (steps + 2) * each > seconds


def test_a_start_that_takes_longer_is_refused(tmp_path):
    with pytest.raises(FaninError, match="larger --budget"):
        steps_within(30, write_probe(tmp_path, 0.1, 31.0))


HUGE = "".join(f'{{"event": "step", "step": {step}, "seconds": {step}e999}}\n' for step in (1, 2))


@pytest.mark.parametrize("log", ["", "{", '{"event": "step", "step": 20, "seconds": 1}\n', "[]\n", HUGE, "[" * 9000])
def test_a_damaged_log_is_named(log, tmp_path):
    write_probe(tmp_path, 0.1, 1.0)
    (tmp_path / "log.jsonl").write_text(log, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"log\.jsonl: damaged"):
        steps_within(30, tmp_path)
