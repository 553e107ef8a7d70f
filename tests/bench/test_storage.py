"""The measurement of stored weights: that the figures belong together; never how fast it is."""

import pytest
import torch

from fanin.bench import storage
from fanin.bench.storage import LayerShape, measure_storage

SMALL = [LayerShape(70, 24, 4), LayerShape(70, 24, 4, 16)]


def test_figures_belong_together(monkeypatch):
    # Each round takes twice as long as the one before, and a step ten times as long as the top-k that follows.
    calls = iter(range(10**6))

    def clock(work):
        work()
        number = next(calls)
        dtype, is_step = number // 2 % 3, number % 2 == 0
        return 2.0 ** (number // 6) * (1 + dtype) * (10 if is_step else 1)

    monkeypatch.setattr(storage, "seconds", clock)
    seen, before = [], torch.get_num_threads()
    rows = measure_storage(SMALL, batch_size=6, threads=before + 1, rounds=3, done=seen.append)
    assert torch.get_num_threads() == before
    assert rows == seen
    assert [(row.group_size, row.dtype) for row in rows] == [(G, dtype) for G in (1, 16) for dtype in storage.DTYPES]
    for number, row in enumerate(rows):
        assert (row.batch_size, row.threads) == (6, before + 1)
        assert row.weight_bytes == 70 * 4 * (4, 2, 1)[number % 3]
        assert row.step_over_float32_ratio == pytest.approx(1 + number % 3)
        assert row.topk_over_float32_ratio == pytest.approx(1 + number % 3)
        assert row.step_ms == pytest.approx(10 * row.topk_ms)
