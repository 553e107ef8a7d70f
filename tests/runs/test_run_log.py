"""The log of a run holds every step once, whatever happened in between."""

import json

import pytest

from fanin.errors import CheckpointError
from fanin.runs.run_log import LogMark, RunLog


def events(path):
    return [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_events_are_lines_with_seconds_that_rise(tmp_path):
    log = RunLog(tmp_path / "log")
    log.write("one", step=3, text="é\n")
    log.write("two")
    first, second = map(json.loads, (tmp_path / "log").read_text(encoding="utf-8").splitlines())
    assert first == {"event": "one", "seconds": first["seconds"], "step": 3, "text": "é\n"}
    assert 0 <= first["seconds"] <= second["seconds"]


def test_what_comes_after_a_mark_is_cut_off(tmp_path):
    log = RunLog(tmp_path / "log")
    log.write("one")
    mark = log.mark()
    log.write("two")
    again = RunLog(tmp_path / "log")
    again.return_to(LogMark(mark.size, 100.0))
    again.write("three")
    assert events(tmp_path / "log") == ["one", "three"]
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["seconds"] >= 100
    again.return_to(LogMark(0, 0.0))
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize("lost", [0, 3, 100])
def test_a_line_that_was_lost_in_part_is_lost_as_a_whole(lost, tmp_path):
    """A machine that went down may have kept less of the log than of the checkpoint."""
    log = RunLog(tmp_path / "log")
    log.write("one")
    log.write("two")
    mark = log.mark()
    content = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(content[: len(content) - lost])
    log.return_to(mark)
    log.write("three")
    assert events(tmp_path / "log") == {0: ["one", "two"], 3: ["one"], 100: []}[lost] + ["three"]


def test_a_log_that_is_gone_begins_anew(tmp_path):
    log = RunLog(tmp_path / "log")
    log.return_to(LogMark(50, 1.0))
    log.write("one")
    assert events(tmp_path / "log") == ["one"]


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "log").mkdir()
    log = RunLog(tmp_path / "log")
    for call in (lambda: log.write("one"), log.mark, lambda: log.return_to(LogMark(0, 0.0))):
        with pytest.raises(CheckpointError, match="log: cannot be written"):
            call()
