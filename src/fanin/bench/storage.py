"""What weights in fewer bits cost or save in time: the sparse layer's step and top-k beside those of float32."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.bench.layers import LayerShape, on_threads, random_batch, seconds
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import SGD, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DTYPES = ("float32", "bfloat16", "float8_e4m3fn")
SHAPES = (
    LayerShape(131_072, 768, 32),
    LayerShape(131_072, 768, 128),
    LayerShape(131_072, 768, 32, 32),
    LayerShape(131_072, 768, 128, 32),
)
_UPDATE = SGD(1e-3)
_K = 5


@dataclass(frozen=True)
class StorageSpeed:
    """One shape in one dtype; times are medians, ratios medians of the rounds' own ratios.

    Attributes:
        out_features: L.
        in_features: D.
        fan_in: F.
        group_size: G.
        batch_size: B.
        threads: of all dtypes.
        dtype: what the weights are stored as.
        weight_bytes: of the weights.
        step_ms: one fused step with BCE and plain SGD, in milliseconds.
        step_over_float32_ratio: its time over that of float32 weights.
        topk_ms: top 5 of the same batch, in milliseconds.
        topk_over_float32_ratio: its time over that of float32 weights.
    """

    out_features: int
    in_features: int
    fan_in: int
    group_size: int
    batch_size: int
    threads: int
    dtype: str
    weight_bytes: int
    step_ms: float
    step_over_float32_ratio: float
    topk_ms: float
    topk_over_float32_ratio: float


def measure_storage(
    shapes: Iterable[LayerShape] = SHAPES,
    *,
    batch_size: int = 128,
    threads: int = 1,
    rounds: int = 21,
    done: Callable[[StorageSpeed], None] = lambda _: None,
) -> list[StorageSpeed]:
    """Time the dtypes in turn, shape by shape.

    Args:
        shapes: the layers.
        batch_size: B.
        threads: how many.
        rounds: how often each dtype has its turn.
        done: called with each row as soon as it is measured.
    """
    rows = []
    with on_threads(threads):
        for shape in shapes:
            for row in _measure(shape, batch_size, threads, rounds):
                rows.append(row)
                done(row)
    return rows


def _measure(shape: LayerShape, batch_size: int, threads: int, rounds: int) -> list[StorageSpeed]:
    L, D, F, G = shape
    layers = {dtype: SparseLinear(D, L, F, G, dtype=dtype) for dtype in DTYPES}
    x, positives = random_batch(shape, batch_size)

    def step(layer: SparseLinear) -> float:
        return seconds(lambda: layer.train_step(x, positives, Loss.BCE, _UPDATE))

    def topk(layer: SparseLinear) -> float:
        return seconds(lambda: layer.topk(x, min(_K, L)))

    for layer in layers.values():  # memory is touched and code loaded before anything counts
        step(layer)
        topk(layer)
    steps = {dtype: [0.0] * rounds for dtype in DTYPES}
    topks = {dtype: [0.0] * rounds for dtype in DTYPES}
    for number in range(rounds):
        for dtype, layer in layers.items():
            steps[dtype][number] = step(layer)
            topks[dtype][number] = topk(layer)
    return [
        StorageSpeed(
            *shape,
            batch_size=batch_size,
            threads=threads,
            dtype=dtype,
            weight_bytes=layer.nbytes()["weight"],
            step_ms=1e3 * statistics.median(steps[dtype]),
            step_over_float32_ratio=_ratio(steps[dtype], steps["float32"]),
            topk_ms=1e3 * statistics.median(topks[dtype]),
            topk_over_float32_ratio=_ratio(topks[dtype], topks["float32"]),
        )
        for dtype, layer in layers.items()
    ]


def _ratio(times: list[float], others: list[float]) -> float:
    """The median over the rounds: what slows a whole round down leaves it as it is."""
    return statistics.median(time / other for time, other in zip(times, others, strict=True))
