"""When checkpoints are due, which are kept, and which one is gone on from."""

import pytest
import torch

from fanin.errors import CheckpointError
from fanin.recipes.checkpoint_recipe import CheckpointSection
from fanin.runs import checkpoint_series
from fanin.runs.checkpoint import RunFacts
from fanin.runs.checkpoint_series import CheckpointSeries, newest_step
from fanin.runs.position import Position


def save(series, step):
    facts = RunFacts(
        position=Position(step=step),
        classifier_steps=step,
        auxiliary_steps=None,
        log_size=0,
        log_seconds=0.0,
        data_key="",
        tokenizer_key=None,
        recipe={},
    )
    series.save(facts, {"random": {"torch": torch.arange(8)}})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_due_by_steps_and_by_time(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(checkpoint_series.time, "monotonic", lambda: now[0])
    series = CheckpointSeries(tmp_path / "c", CheckpointSection(minutes=2, steps=10))
    assert [series.due(step) for step in (9, 10, 11, 20)] == [False, True, False, True]
    now[0] += 119
    assert not series.due(11)
    now[0] += 1
    assert series.due(11)
    save(series, 11)
    assert not series.due(12)
    never = CheckpointSeries(tmp_path, CheckpointSection(minutes=None))
    now[0] += 1e9
    assert not never.due(10)


def test_the_newest_are_kept(tmp_path):
    series = CheckpointSeries(tmp_path / "c", CheckpointSection(kept=2))
    assert newest_step(tmp_path / "c") is None
    assert series.newest(print) is None
    for step in (5, 9, 123_456_789):
        save(series, step)
    assert names(tmp_path / "c") == ["step-00000009", "step-123456789"]
    assert newest_step(tmp_path / "c") == 123_456_789
    assert series.newest(print).facts.position.step == 123_456_789
    save(series, 10)  # after going back
    assert names(tmp_path / "c") == ["step-00000009", "step-00000010"]
    series.remove()
    assert names(tmp_path) == []
    series.remove()


def test_damaged_ones_are_put_aside_and_named(tmp_path):
    series, told = CheckpointSeries(tmp_path, CheckpointSection(kept=3)), []
    for step in (5, 9, 12):
        save(series, step)
    (tmp_path / "step-00000012" / "random.safetensors").unlink()
    (tmp_path / "step-00000009" / "checkpoint.json").write_text("{}")
    assert series.newest(told.append).facts.position.step == 5
    for step, line in zip((12, 9), told, strict=True):
        assert f"step-{step:08d}" in line
        assert "the one of step 5 is used" in line
    assert names(tmp_path) == ["step-00000005", "step-00000009.damaged", "step-00000012.damaged"]
    assert newest_step(tmp_path) == 5
    save(series, 9)
    assert series.newest(told.append).facts.position.step == 9
    assert len(told) == 2


def test_without_a_whole_one_nothing_is_touched(tmp_path):
    series = CheckpointSeries(tmp_path, CheckpointSection())
    for step in (5, 9):
        save(series, step)
        (tmp_path / f"step-{step:08d}" / "random.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no whole checkpoint is left") as caught:
        series.newest(print)
    assert "step-00000005" in str(caught.value)
    assert "step-00000009" in str(caught.value)
    assert names(tmp_path) == ["step-00000005", "step-00000009"]


def test_a_save_that_fails_says_what_is_kept(tmp_path):
    series = CheckpointSeries(tmp_path, CheckpointSection())
    (tmp_path / "step-00000009").touch()  # in the way
    with pytest.raises(CheckpointError, match="there is no earlier one"):
        save(series, 9)
    save(series, 5)
    with pytest.raises(CheckpointError, match="the one of step 5 is kept"):
        save(series, 9)
