"""The measurement of scale: that it trains what was asked for, and draws the right lines; never how fast it is."""

import sys

import numpy as np
import pytest

from fanin.bench import scale
from fanin.bench.scale import measure_scale, straight_line

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory otherwise")


@linux
def test_a_run_of_each_group_size(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "_LEAST_ROWS", 700)
    seen = []
    runs = measure_scale([200], [4], steps=12, folder=tmp_path, done=seen.append)
    assert runs == seen
    (run,) = runs
    assert (run.labels, run.rows, run.steps, run.group_size) == (200, 700, 12, 4)
    assert 0 < run.imports_gib <= run.prepared_gib <= run.built_gib <= run.peak_gib
    for name in ("prepare_s", "build_s", "step_ms", "step_cpu_ms", "predicted_per_s", "predicted_per_cpu_s"):
        assert getattr(run, name) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["data-200"]


def test_a_line_and_how_far_from_it():
    labels = np.array([1, 2, 5]) * 1_000_000
    assert straight_line(labels, 3 + 0.5 * labels / 1e6) == (3.0, 0.5, 0.0)
    line = straight_line(labels, [3.5, 4.4, 5.5])
    assert 0.05 < line.worst_share < 0.1
    assert straight_line([7], [2.0]) == (2.0, 0.0, 0.0)
