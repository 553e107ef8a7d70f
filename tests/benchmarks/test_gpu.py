"""The measurements on a GPU: the script runs at toy size without one, and its parts compute what they should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fanin.kernels.spec import Positives
from triton_under_test import require_triton

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu_parts(monkeypatch):
    """Makes benchmarks.gpu importable, as it is from the root of the repository."""
    require_triton()
    monkeypatch.syspath_prepend(ROOT)


def test_the_script_runs_through_at_toy_size(tmp_path):
    require_triton()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: the script would measure it")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", tmp_path / "gpu.json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sections = json.loads((tmp_path / "gpu.json").read_text())
    assert all(section["rows"] for section in sections.values())
    # Every layout at every number of labels, and the dense one.
    whole = [*sections["whole_steps"]["rows"], *sections["other_whole_steps"]["rows"]]
    layouts = [tuple(row.get(k) for k in ("labels", "fan_in", "group", "weights", "card_gib")) for row in whole]
    assert len(set(layouts)) == len(layouts)
    for F in (6, 8):
        for G in (16, 1):
            assert {(70, F, G, "fp8", None), (70, F, G, "bf16", None)} <= set(layouts)
    assert (90, 6, 16, "fp8", 4.0) in layouts
    assert any(row["classifier"] == "dense" for row in whole)
    assert all(row["roofline_limit"] in ("bytes", "operations") for row in sections["other_operations"]["rows"])
    reached = {row["goal"]: row["met"] for row in sections["goals"]["rows"]}
    assert reached["largest error of logits with fp32 weights"] is True
    assert [met for goal, met in reached.items() if "peak" in goal or "card" in goal] == [None, None]  # takes a GPU
    for row in sections["errors"]["rows"]:
        for part in ("logits", "dx", "weight_gradient"):
            # With so few numbers the largest rounding error of the two may be either's.
            assert row[part] <= (1e-5 if row["weights"] == "fp32" else 1.5 * row[f"{part}_plain_torch"])


def test_without_a_gpu_and_interpreter_the_script_says_so(tmp_path):
    require_triton()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", tmp_path / "gpu.json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "work on a GPU" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_section_that_fails_leaves_the_others(gpu_parts, tmp_path):
    from benchmarks.gpu.recorder import Recorder, guarded

    def broken():
        yield {"a": 1}
        raise RuntimeError("no memory")

    recorder = Recorder(tmp_path / "out.json", seconds=60)
    recorder.run("first", broken)
    recorder.run("second", lambda: [guarded(lambda: {"b": 1 / 0}, name="x"), guarded(lambda: {"b": 2}, name="y")])
    recorder.run("third", lambda: [{"c": 3}])
    sections = json.loads((tmp_path / "out.json").read_text())
    assert sections["first"]["rows"] == [{"a": 1}]
    assert "no memory" in sections["first"]["error"]
    assert [row["name"] for row in sections["second"]["rows"]] == ["x", "y"]
    assert sections["third"]["rows"] == [{"c": 3}]
    assert recorder.failed() == ["first", "second"]


def test_what_is_out_of_time_is_cut(gpu_parts, tmp_path):
    from benchmarks.gpu.recorder import Recorder

    recorder = Recorder(tmp_path / "out.json", seconds=0)
    assert recorder.run("late", lambda: [{"a": 1}]) == []
    assert json.loads((tmp_path / "out.json").read_text())["late"]["cut"]


def test_the_dense_rival_makes_the_step_of_dense_float64(gpu_parts):
    from benchmarks.gpu.dense_step import DenseStep

    L, D, B = 50, 12, 6
    step = DenseStep(L, D, 16, torch.device("cpu"))
    weight, bias = step.weight.double(), step.bias.double()
    x, positives = torch.randn(B, D), Positives(torch.arange(B + 1) * 2, torch.arange(2 * B) * 7 % L)
    target = torch.zeros(B, L, dtype=torch.float64)
    target[torch.arange(B).repeat_interleave(2), positives.indices] = 1
    grad = ((x.double() @ weight.T + bias).sigmoid() - target) / B
    dx = step(x, step.places(positives), rate=1.0)
    torch.testing.assert_close(dx.double(), grad @ weight, rtol=0.02, atol=2e-3)
    torch.testing.assert_close(step.weight.double(), weight - grad.T @ x.double(), rtol=0.02, atol=5e-3)
    torch.testing.assert_close(step.bias.double(), bias - grad.sum(0), rtol=0.02, atol=5e-3)


def test_goals_are_met_or_missed_by_what_was_measured(gpu_parts):
    from benchmarks.gpu.goals import goals
    from benchmarks.gpu.sizes import TOY

    layout = {"classifier": "sparse", "labels": 70, "fan_in": 6, "group": 16, "weights": "fp8"}
    step = {"fan_in": 6, "group": 16, "weights": "fp8", "loss": "bce"}
    errors = [
        {"weights": "bf16", "dx": 3e-3, "dx_plain_torch": 4e-3},
        {"weights": "bf16", "dx": 2e-3, "dx_plain_torch": 1e-3},
        {"weights": "fp32", "dx": 2e-6, "dx_plain_torch": 1e-6},
    ]
    sections = {
        "whole_steps": {
            "rows": [
                {**layout, "labels": 90, "card_gib": 4.0, "fits": False},
                {**layout, "group": 1, "allocated_gib": 9.0},
                {**layout, "allocated_gib": 2.1},
            ]
        },
        "sparse_steps": {"rows": [{**step, "dense_over_sparse": 3.5}, {**step, "group": 1, "dense_over_sparse": 0.5}]},
        "errors": {"rows": errors},
    }
    found = {row["goal"]: row for row in goals(sections, TOY)}

    def met(part):
        [row] = [row for goal, row in found.items() if part in goal]
        return row["met"]

    assert met("peak of a whole step at 70 labels") is True
    assert met("at 90 labels on a card of 4 GiB") is False
    assert met("F = 6, G = 16") is True
    assert met("F = 6, G = 1,") is False
    assert met("F = 8, G = 16") is None
    assert met("dx with fp32") is True
    assert met("dx with bf16 weights, beside plain torch") is False  # one of the kernels is worse
    assert met("logits with bf16") is None


def test_a_small_card_is_played_for_a_step_and_then_no_more(gpu_parts, monkeypatch):
    from benchmarks.gpu.whole_step import _card

    told, device = [], torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (79 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 512 << 20)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _device: told.append(share))
    with _card(device, 4 << 30):
        assert told == [pytest.approx(3.5 / 80)]  # half a GiB is CUDA's own
    assert told[1:] == [1.0]
