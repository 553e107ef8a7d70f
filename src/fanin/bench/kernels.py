"""How fast the fused training step of the sparse layer is beside the dense one, and both beside matrix products.

Both sides do the same work on the same batch: logits, BCE and its gradient from sparse positives, the input gradient,
and an in-place SGD update. The dense side is :class:`fanin.classifier.dense.DenseLinear` (chunked matrix products of
torch's library) with the chunk that is fastest here; every row says which share of the machine's measured rate of
matrix products each side reaches, so that nobody has to believe that the dense side was given a fair chance.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fanin.bench.layers import LayerShape, on_threads, random_batch, seconds
from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import SGD, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fanin.classifier.interface import Classifier
    from fanin.kernels.spec import Positives

_UPDATE = SGD(1e-3)
_SPARSE_STEPS_A_ROUND = 3  # the shorter side is timed more often


# L * D falls as D grows, so that the dense weights stay near half a gigabyte.
SHAPES = (
    LayerShape(131_072, 768, 32),
    LayerShape(131_072, 768, 32, 32),
    LayerShape(131_072, 768, 128, 32),
    LayerShape(131_072, 768, 128),
    LayerShape(32_768, 4096, 32),
    LayerShape(8192, 16_384, 32),
    LayerShape(2048, 65_536, 32),
)


@dataclass(frozen=True)
class StepSpeed:
    """One shape on one number of threads; times are medians.

    Attributes:
        out_features: L.
        in_features: D.
        fan_in: F.
        group_size: G.
        batch_size: B.
        threads: of both sides.
        sparse_ms: one fused step of the sparse layer, in milliseconds.
        dense_ms: the same of the dense layer.
        dense_over_sparse_ratio: dense_ms / sparse_ms.
        sparse_rate_share: the 6 L F B operations of the sparse step a second, as a share of sgemm_gflops.
        dense_rate_share: the 6 L D B operations of the dense step a second, as a share of sgemm_gflops.
        sgemm_gflops: the best rate of a large float32 matrix product here, in 10^9 operations a second.
        dense_chunk_size: the chunk of labels that was fastest.
        backend: what ran the sparse side: the instruction set of the compiled core, or "reference".
    """

    out_features: int
    in_features: int
    fan_in: int
    group_size: int
    batch_size: int
    threads: int
    sparse_ms: float
    dense_ms: float
    dense_over_sparse_ratio: float
    sparse_rate_share: float
    dense_rate_share: float
    sgemm_gflops: float
    dense_chunk_size: int
    backend: str


def measure_kernels(
    shapes: Iterable[LayerShape] = SHAPES,
    *,
    batch_size: int = 128,
    threads: Sequence[int] | None = None,
    rounds: int = 7,
    sgemm_size: int = 2048,
    chunk_sizes: Sequence[int] = (1024, 2048, 4096, 8192),
    done: Callable[[StepSpeed], None] = lambda _: None,
) -> list[StepSpeed]:
    """Time sparse and dense steps in turn, for each number of threads and each shape.

    Args:
        shapes: the layers.
        batch_size: B.
        threads: numbers of threads; one and all by default.
        rounds: how often each side has its turn; each round also times one matrix product.
        sgemm_size: rows and columns of the matrix product that gives the machine's rate.
        chunk_sizes: candidates for the dense side's chunk.
        done: called with each row as soon as it is measured.

    Raises:
        AssertionError: the sides disagree on the loss of the first step.
    """
    before = torch.get_num_threads()
    shapes = list(shapes)
    rows = []
    for count in threads or sorted({1, before}):
        for shape in shapes:
            with on_threads(count):
                rows.append(_measure(shape, batch_size, count, rounds, sgemm_size, chunk_sizes))
            done(rows[-1])
    return rows


def _measure(
    shape: LayerShape, batch_size: int, threads: int, rounds: int, sgemm_size: int, chunk_sizes: Sequence[int]
) -> StepSpeed:
    sparse = SparseLinear(shape.in_features, shape.out_features, shape.fan_in, shape.group_size)
    dense = _dense_twin(sparse)
    batch = random_batch(shape, batch_size)
    _same_first_loss(sparse, dense, *batch)
    product = _Product(sgemm_size)

    def step(layer: Classifier) -> float:
        return seconds(lambda: layer.train_step(*batch, Loss.BCE, _UPDATE))

    chunk_times = {}
    for dense.chunk_size in chunk_sizes:
        chunk_times[dense.chunk_size] = min(step(dense) for _ in range(2))
    dense.chunk_size = min(chunk_times, key=chunk_times.__getitem__)
    sparse_times: list[float] = []
    dense_times: list[float] = []
    rates: list[float] = []
    for _ in range(rounds):
        dense_times.append(step(dense))
        sparse_times.extend(step(sparse) for _ in range(_SPARSE_STEPS_A_ROUND))
        rates.append(product.rate())
    dense_s, sparse_s, rate = statistics.median(dense_times), statistics.median(sparse_times), max(rates)
    pairs = 6 * shape.out_features * batch_size  # operations of the three products for each input that is read
    return StepSpeed(
        *shape,
        batch_size=batch_size,
        threads=threads,
        sparse_ms=1e3 * sparse_s,
        dense_ms=1e3 * dense_s,
        dense_over_sparse_ratio=dense_s / sparse_s,
        sparse_rate_share=pairs * shape.fan_in / sparse_s / rate,
        dense_rate_share=pairs * shape.in_features / dense_s / rate,
        sgemm_gflops=rate / 1e9,
        dense_chunk_size=dense.chunk_size,
        backend=_backend_name(),
    )


def _backend_name() -> str:
    from fanin.kernels.dispatch import choose

    backend = choose(torch.device("cpu"), torch.float32).backend
    return str(getattr(backend, "instruction_set", backend.name))


def _dense_twin(sparse: SparseLinear) -> DenseLinear:
    """A dense layer with the same logits: the sparse weights, and zero elsewhere."""
    dense = DenseLinear(sparse.in_features, sparse.out_features, initial_scale=0.0)
    columns = sparse.index.to(torch.int64).repeat_interleave(sparse.group_size, dim=0)[: sparse.out_features]
    with torch.no_grad():
        dense.weight.scatter_(1, columns, sparse.weight)
        assert dense.bias is not None
        assert sparse.bias is not None
        dense.bias.copy_(sparse.bias)
    return dense


def _same_first_loss(sparse: SparseLinear, dense: DenseLinear, x: torch.Tensor, positives: Positives) -> None:
    losses = [layer.train_step(x, positives, Loss.BCE, _UPDATE)[0] for layer in (sparse, dense)]
    assert abs(losses[0] - losses[1]) <= 1e-4 * abs(losses[1]), f"sparse and dense losses differ: {losses}"


class _Product:
    """A large matrix product into memory of its own."""

    def __init__(self, size: int) -> None:
        self._a, self._b = torch.randn(2, size, size).unbind()
        self._out = torch.empty(size, size)

    def rate(self) -> float:
        """Operations a second, the better of two."""
        operations = 2 * len(self._a) ** 3
        return operations / min(seconds(lambda: torch.mm(self._a, self._b, out=self._out)) for _ in range(2))
