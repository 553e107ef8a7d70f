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
