"""The kernel measurement: that both sides do the same work and the figures belong together; never how fast it is."""

import pytest
import torch

from fanin.bench import kernels
from fanin.bench.kernels import SHAPES, LayerShape, measure_kernels
from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear

SMALL = [LayerShape(70, 24, 4), LayerShape(70, 24, 4, 16)]


def test_figures_belong_together(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(kernels, "seconds", lambda work: (work(), 1e-3 * next(clock))[1] + 1e-3)
    seen = []
    rows = measure_kernels(
        SMALL, batch_size=6, threads=[1, 2], rounds=2, sgemm_size=8, chunk_sizes=(32, 64), done=seen.append
    )
    assert rows == seen
    assert [(row.threads, row.group_size) for row in rows] == [(1, 1), (1, 16), (2, 1), (2, 16)]
    for row in rows:
        assert row.dense_over_sparse_ratio == pytest.approx(row.dense_ms / row.sparse_ms)
        rate = 1e9 * row.sgemm_gflops
        assert row.dense_rate_share == pytest.approx(6 * 70 * 24 * 6 / (row.dense_ms / 1e3) / rate)
        assert row.sparse_rate_share == pytest.approx(6 * 70 * 4 * 6 / (row.sparse_ms / 1e3) / rate)
        assert row.dense_chunk_size == 32  # the clock goes slower and slower


def test_threads_are_put_back():
    before = torch.get_num_threads()
    measure_kernels(SMALL[:1], batch_size=2, threads=[before + 1], rounds=1, sgemm_size=4, chunk_sizes=(64,))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("G", [1, 16])
def test_the_dense_twin_has_the_same_logits(G):
    sparse = SparseLinear(24, 70, 4, G)
    dense, x = kernels._dense_twin(sparse), torch.randn(3, 24)
    torch.testing.assert_close(dense(x), sparse(x))


def test_sides_that_disagree_are_not_compared(monkeypatch):
    monkeypatch.setattr(kernels, "_dense_twin", lambda sparse: DenseLinear(24, 70, initial_scale=9.0))
    with pytest.raises(AssertionError, match="losses differ"):
        measure_kernels(SMALL[:1], batch_size=2, threads=[1], rounds=1, sgemm_size=4)


def test_dense_weights_of_the_shapes_fit_into_a_gibibyte():
    assert all(4 * shape.out_features * shape.in_features <= 2**30 for shape in SHAPES)
